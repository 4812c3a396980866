"""MILENAGE (TS 35.206): what a network and a SIM compute of K, OPc and RAND."""
import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Rotation in bytes and constant of f1 to f5*.
F1, F2, F3, F4, F5_STAR = (8, 0), (0, 1), (4, 2), (8, 4), (12, 8)


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Sim:
    """The secrets of a user, and the sequence number that goes with them."""

    def __init__(self, k, opc, sqn=0):
        self.k, self.opc, self.sqn = bytes.fromhex(k), bytes.fromhex(opc), sqn

    def _cipher(self, block):
        return Cipher(algorithms.AES(self.k), modes.ECB()).encryptor().update(block)

    def _out(self, function, block, also=bytes(16)):
        """OUT of one function: E(rot(block ⊕ OPc) ⊕ c ⊕ also) ⊕ OPc."""
        turn, constant = function
        mixed = xor(block, self.opc)
        turned = mixed[turn:] + mixed[:turn]
        return xor(self._cipher(xor(xor(turned, bytes(15) + bytes([constant])), also)), self.opc)

    def f1(self, rand, sqn, amf):
        """MAC-A, by which a network proves itself, and MAC-S, by which a SIM does."""
        temp = self._cipher(xor(rand, self.opc))
        out = self._out(F1, (sqn + amf) * 2, temp)
        return out[:8], out[8:]

    def keys(self, rand):
        """RES, CK, IK, AK and AK*."""
        temp = self._cipher(xor(rand, self.opc))
        second = self._out(F2, temp)
        return second[8:], self._out(F3, temp), self._out(F4, temp), second[:6], self._out(F5_STAR, temp)[:6]

    # The network's part.

    def vector(self):
        """The next RAND ‖ AUTN, and what answers it: RES, CK, IK."""
        self.sqn += 32
        rand, amf, sqn = os.urandom(16), b"\x80\0", self.sqn.to_bytes(6, "big")
        res, ck, ik, ak, _ = self.keys(rand)
        return rand + xor(sqn, ak) + amf + self.f1(rand, sqn, amf)[0], res, ck, ik

    def follow(self, rand, auts):
        """Takes the sequence number of an AUTS, if it is the SIM's."""
        sqn = xor(auts[:6], self.keys(rand)[4])
        if self.f1(rand, sqn, bytes(2))[1] != auts[6:14]:
            return False
        self.sqn = int.from_bytes(sqn, "big")
        return True

    # The SIM's part.

    def answer(self, challenge):
        """RES, or None where the challenge is nobody's who knows K; its sequence number."""
        rand, autn = challenge[:16], challenge[16:32]
        res, _, _, ak, _ = self.keys(rand)
        sqn = xor(autn[:6], ak)
        good = self.f1(rand, sqn, autn[6:8])[0] == autn[8:]
        return res if good else None, int.from_bytes(sqn, "big")

    def auts(self, rand):
        """What tells the network our sequence number."""
        sqn = self.sqn.to_bytes(6, "big")
        return xor(sqn, self.keys(rand)[4]) + self.f1(rand, sqn, bytes(2))[1]


def check():
    """TS 35.207 §4.3 and §5.3, test set 1."""
    sim = Sim("465b5ce8b199b49faa5f0a2ee238a6bc", "cd63cb71954a9f4e48a5994e37a02baf")
    rand = bytes.fromhex("23553cbe9637a89d218ae64dae47bf35")
    mac, resync = sim.f1(rand, bytes.fromhex("ff9bb4d0b607"), bytes.fromhex("b9b9"))
    assert (mac.hex(), resync.hex()) == ("4a9ffac354dfafb3", "01cfaf9ec4e871e9")
    res, ck, ik, ak, star = sim.keys(rand)
    assert (res.hex(), ak.hex(), star.hex()) == ("a54211d5e3ba50bf", "aa689c648370", "451e8beca43b")
    assert (ck.hex(), ik.hex()) == ("b40ba9a3c58b2a05bbf0d987b21bf8cb", "f769bcd751044604127672711c6d3441")


if __name__ == "__main__":
    check()
