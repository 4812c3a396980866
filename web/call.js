// One call: the peer connection on one side, CAMARA's media session on the other.

const ENDED = new Set(['Terminated', 'SessionCancelled', 'Declined', 'Failed', 'NoAnswer', 'NotReachable', 'Busy']);
// How long a connection that went silent may take to come back by itself before a new one is offered.
const SILENT = 4_000;
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 15_000;

export const hasEnded = (status) => ENDED.has(status);

/** Asks for the microphone, or the camera; says plainly why there is none. */
async function capture(kind) {
  const device = kind === 'audio' ? 'microphone' : 'camera';
  try {
    if (!navigator.mediaDevices) throw new Error('the page is not served over https');
    return (await navigator.mediaDevices.getUserMedia({ [kind]: true })).getTracks()[0];
  } catch (error) {
    throw new Error(`No ${device}: ${error.message || error.name}`);
  }
}

/** `on.change()`: something is to be shown anew. `on.said(text)`: something happened. `on.failed(error)`. `on.over(call)`. */
export class Call {
  peer;
  status = 'Initial';
  reason = '';
  id = null;
  answered = false;
  over = false;
  held = false;
  remote = new MediaStream();
  recovering = false;

  #api;
  #on;
  #role;
  #pc = null;
  #tracks = { audio: null, video: null };
  #sequence = 0;
  #ownOffer = null;
  #theirOffer = null;
  #early = [];
  #silence = null;
  // One exchange of descriptions at a time.
  #turn = Promise.resolve();

  constructor(api, role, peer, on) {
    this.#api = api;
    this.#role = role;
    this.peer = peer;
    this.#on = on;
  }

  /** Somebody calls this device. */
  static invited(api, data, on) {
    const call = new Call(api, 'receiver', data.originatorName ?? data.originatorAddress, on);
    call.id = data.mediaSessionId;
    call.#theirOffer = data.offer?.sdp ?? null;
    call.heard(data);
    return call;
  }

  /** A call that this window had before it was loaded anew. */
  static async resumed(api, { id, role, peer, held }, on) {
    const call = new Call(api, role, peer, on);
    const session = await api.session(id);
    if (hasEnded(session.status)) return null;
    call.id = id;
    call.status = session.status;
    if (role === 'receiver' && ['Initial', 'Ringing', 'Proceeding', 'Waiting'].includes(session.status)) {
      call.#theirOffer = session.offer?.sdp ?? null;
      return call;
    }
    call.answered = !['Initial', 'Ringing', 'Proceeding', 'InProgress', 'Waiting'].includes(session.status);
    call.held = held;
    call.#tracks.audio = await capture('audio');
    call.recover();
    return call;
  }

  /** What is enough to come back to it. */
  get memory() {
    return { id: this.id, role: this.#role, peer: this.peer, held: this.held };
  }

  get ringsHere() {
    return this.#role === 'receiver' && !this.answered && !this.over;
  }

  get connection() {
    return this.#pc?.connectionState ?? 'none';
  }

  get sendsVideo() {
    return Boolean(this.#tracks.video);
  }

  get ownVideo() {
    return this.#tracks.video;
  }

  /** Calls; events may come before the server's answer does. */
  async start(registrationId, from) {
    try {
      this.#tracks.audio = await capture('audio');
      await this.#connect();
      const session = await this.#api.call(registrationId, from, this.peer, await this.#offer());
      this.id = session.mediaSessionId;
      if (this.over) {
        // Hung up before the server had answered.
        await this.#api.hangUp(this.id);
        return;
      }
      this.status = session.status;
    } catch (error) {
      const hungUp = this.over;
      this.#end();
      if (hungUp) return;
      throw error;
    }
    for (const data of this.#early.splice(0)) this.heard(data);
    this.#on.change();
  }

  /** The device shows it. */
  async ring() {
    await this.#api.setStatus(this.id, 'Ringing');
  }

  async answer() {
    this.#tracks.audio ??= await capture('audio');
    await this.#inTurn(async () => {
      const change = this.#theirOffer ? { answer: { sdp: await this.#accept(this.#theirOffer) } } : null;
      if (!change) await this.#connect();
      await this.#put('Connected', change ?? { offer: { sdp: await this.#offer() } });
      this.answered = true;
    });
    this.#on.change();
  }

  async refuse(status) {
    await this.#api.setStatus(this.id, status);
    this.#end();
  }

  async hangUp() {
    try {
      if (this.id) await this.#api.hangUp(this.id);
    } catch (error) {
      // It is over already.
      if (error.status !== 404) throw error;
    }
    this.#end();
  }

  /** Holds or goes on: by an offer that sends only, or both ways, as SIP has it too (RFC 3264 §8.4). */
  async hold(held) {
    await this.#inTurn(async () => {
      const before = this.held;
      this.held = held;
      this.#direct();
      try {
        await this.#put(held ? 'Hold' : 'Resume', { offer: { sdp: await this.#offer() } });
      } catch (error) {
        this.held = before;
        this.#direct();
        await this.#pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
        throw error;
      }
    });
    this.#on.change();
  }

  async addVideo() {
    this.#tracks.video ??= await capture('video');
    await this.#inTurn(async () => {
      this.#pc.addTrack(this.#tracks.video);
      this.#direct();
      await this.#put(this.#going, { offer: { sdp: await this.#offer() } });
    });
    this.#on.change();
  }

  press(key) {
    const sender = this.#pc?.getSenders().find(({ track }) => track?.kind === 'audio');
    if (!sender?.dtmf?.canInsertDTMF) throw new Error('No key can be sent now: this call takes none, or is not connected.');
    sender.dtmf.insertDTMF(sender.dtmf.toneBuffer + key, 120, 80);
  }

  /** The server says how the session stands. */
  heard(data) {
    if (this.id === null) {
      if (this.#early.length < 32) this.#early.push(data);
      return;
    }
    if (data.mediaSessionId !== this.id || this.over || data.sequenceNumber <= this.#sequence) return;
    this.#sequence = data.sequenceNumber ?? this.#sequence;
    this.status = data.status;
    this.reason = data.reason ?? '';
    if (hasEnded(data.status)) {
      this.#end();
      return;
    }
    if (data.status === 'Connected') this.answered = true;
    this.#described(data).catch((error) => this.#on.failed(error));
    this.#on.change();
  }

  /** What was missed meanwhile is read; where media is gone, a new connection is offered. */
  async catchUp() {
    if (this.id === null || this.over) return;
    let session;
    try {
      session = await this.#api.session(this.id);
    } catch (error) {
      if (error.status === 404) this.#end();
      return;
    }
    this.status = session.status;
    if (hasEnded(session.status)) {
      this.#end();
      return;
    }
    if (session.status === 'Connected') this.answered = true;
    if (!this.ringsHere) await this.#described(session);
    if (this.#pc && ['failed', 'disconnected', 'closed'].includes(this.connection)) this.recover();
    this.#on.change();
  }

  /** A new connection in the place of one that has failed. */
  async recover() {
    if (this.recovering || this.over) return;
    this.recovering = true;
    this.#on.said('The connection for media is made anew.');
    this.#on.change();
    for (let wait = FIRST_WAIT; !this.over; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      try {
        await this.#inTurn(async () => {
          await this.#connect();
          await this.#put(this.#going, { offer: { sdp: await this.#offer() } });
        });
        break;
      } catch (error) {
        if (error.status === 404) this.#end();
        // The server refuses for good, or is not there yet.
        else if (error.status >= 400 && error.status < 500) {
          this.#on.failed(error);
          await this.#look();
          break;
        }
        await new Promise((go) => setTimeout(go, wait));
      }
    }
    this.recovering = false;
    this.#on.change();
  }

  async #look() {
    const session = await this.#api.session(this.id).catch((error) => (error.status === 404 ? { status: 'Terminated' } : null));
    if (session && hasEnded(session.status)) {
      this.status = session.status;
      this.#end();
    }
  }

  /** Packets and picture, for people. */
  async figures() {
    const figures = { heard: 0, lost: 0, sent: 0, width: 0, height: 0 };
    const stats = await this.#pc?.getStats().catch(() => null);
    for (const one of stats?.values() ?? []) {
      if (one.type === 'inbound-rtp' && one.kind === 'audio') {
        figures.heard += one.packetsReceived ?? 0;
        figures.lost += Math.max(one.packetsLost ?? 0, 0);
      }
      if (one.type === 'outbound-rtp' && one.kind === 'audio') figures.sent += one.packetsSent ?? 0;
      if (one.type === 'inbound-rtp' && one.kind === 'video' && one.framesDecoded) {
        [figures.width, figures.height] = [one.frameWidth ?? 0, one.frameHeight ?? 0];
      }
    }
    return figures;
  }

  /** The status with which a description is sent that changes nothing else. */
  get #going() {
    if (this.answered) return 'Connected';
    return this.#role === 'originator' ? 'InProgress' : 'Ringing';
  }

  #inTurn(work) {
    const done = this.#turn.then(() => (this.over ? undefined : work()));
    this.#turn = done.catch(() => {});
    return done;
  }

  /** A new peer connection, with what is sent. */
  async #connect() {
    clearTimeout(this.#silence);
    this.#pc?.close();
    for (const track of this.remote.getTracks()) this.remote.removeTrack(track);
    const pc = new RTCPeerConnection();
    this.#pc = pc;
    pc.ontrack = ({ track }) => {
      for (const old of this.remote.getTracks()) {
        if (old.kind === track.kind) this.remote.removeTrack(old);
      }
      this.remote.addTrack(track);
      track.onunmute = track.onmute = () => this.#on.change();
      this.#on.change();
    };
    pc.onconnectionstatechange = () => {
      if (pc !== this.#pc) return;
      clearTimeout(this.#silence);
      if (pc.connectionState === 'failed') this.recover();
      if (pc.connectionState === 'disconnected') this.#silence = setTimeout(() => this.recover(), SILENT);
      this.#on.change();
    };
    for (const track of Object.values(this.#tracks)) {
      if (track) pc.addTrack(track);
    }
    this.#direct();
  }

  /** Who holds sends nothing that could be heard, and takes nothing. */
  #direct() {
    for (const transceiver of this.#pc?.getTransceivers() ?? []) {
      const sends = Boolean(transceiver.sender.track);
      if (transceiver.stopped) continue;
      if (this.held) transceiver.direction = sends ? 'sendonly' : 'inactive';
      else transceiver.direction = sends ? 'sendrecv' : 'recvonly';
    }
    for (const track of Object.values(this.#tracks)) {
      if (track) track.enabled = !this.held;
    }
  }

  async #offer() {
    await this.#pc.setLocalDescription(await this.#pc.createOffer());
    // The server is ICE-lite: it needs none of our candidates, so nothing waits for them.
    this.#ownOffer = this.#pc.localDescription.sdp;
    return this.#ownOffer;
  }

  /** Takes an offer of the server's, and makes the answer. */
  async #accept(sdp) {
    if (!this.#pc) await this.#connectForTheirs();
    this.#theirOffer = sdp;
    await this.#pc.setRemoteDescription({ type: 'offer', sdp });
    if (this.#pc.getTransceivers().every(({ sender }) => sender.track !== this.#tracks.audio)) {
      this.#pc.addTrack(this.#tracks.audio);
    }
    this.#direct();
    await this.#pc.setLocalDescription(await this.#pc.createAnswer());
    return this.#pc.localDescription.sdp;
  }

  async #connectForTheirs() {
    const tracks = this.#tracks;
    // What is sent joins what is offered.
    this.#tracks = { audio: null, video: null };
    await this.#connect();
    this.#tracks = tracks;
  }

  async #put(status, change) {
    const session = await this.#api.setStatus(this.id, status, change);
    if (session) {
      this.status = session.status;
      if (change.offer && session.answer) await this.#take(session.answer.sdp);
    }
  }

  async #take(sdp) {
    if (this.#pc.signalingState !== 'have-local-offer') return;
    await this.#pc.setRemoteDescription({ type: 'answer', sdp });
  }

  /** Descriptions that came along: an answer to ours, or an offer for us. */
  #described({ offer, answer }) {
    return this.#inTurn(async () => {
      const [theirs, own] = [offer?.sdp, answer?.sdp];
      if (own && theirs === this.#ownOffer) await this.#take(own);
      // Before the call is answered here, the offer waits for that.
      if (!theirs || own || theirs === this.#ownOffer) return;
      if (this.ringsHere) {
        this.#theirOffer = theirs;
      } else if (theirs !== this.#theirOffer && this.#pc?.signalingState === 'stable') {
        const sdp = await this.#accept(theirs);
        await this.#put(this.#going, { answer: { sdp } });
      }
    });
  }

  #end() {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.#silence);
    this.#pc?.close();
    for (const track of Object.values(this.#tracks)) track?.stop();
    this.#on.over(this);
  }
}
