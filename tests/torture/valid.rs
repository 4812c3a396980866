//! RFC 4475 §3.1.1: valid messages.

use super::Expect::{Call, Read, Status, Taken};
use super::{Torture, message, sdp};

#[expect(clippy::too_many_lines, reason = "a list")]
pub fn messages() -> Vec<Torture> {
    let sdp1 = sdp("192.0.2.1", "0 0");
    let longreq = longreq(&sdp1);
    vec![
        // Well-formed; To has a tag, and there is no such dialog (RFC 3261 §12.2.2).
        message(
            "3.1.1.1",
            "wsinv",
            Status(481),
            r#"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : "J Rosenberg \\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 150
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \"\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

v=0
o=mhandley 29739 7272939 IN IP4 192.0.2.3
s=-
c=IN IP4 192.0.2.4
t=0 0
m=audio 49217 RTP/AVP 0 12
m=video 3227 RTP/AVP 31
a=rtpmap:31 LPC
"#,
        ),
        message(
            "3.1.1.2",
            "intmeth",
            Status(501),
            &format!(
                "!interesting-Method0123456789_*+`.%indeed'~ \
                 sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)\
                 @example.com SIP/2.0\n\
                 Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\n\
                 To: \"BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}\" \
                 <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\n\
                 From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>\
                 ;fromParam''~+*_!.-%=\"{}\";tag=_token~1'+`*%!-.\n\
                 Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}}{{\n\
                 CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~\n\
                 Max-Forwards: 255\n\
                 extensionHeader-!.%*+_`'~:\u{feff}\u{5927}\u{505c}\u{96fb}\n\
                 Content-Length: 0\n\n",
                "\u{440}\u{430}\u{431}\u{43e}\u{442}\u{430}\u{44e}\u{449}\u{438}\u{439}"
            ),
        ),
        message(
            "3.1.1.3",
            "esc01",
            Call,
            &format!(
                "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0
To: sip:%75se%72@example.com
From: <sip:I%20have%20spaces@example.net>;tag=938
Max-Forwards: 87
i: esc01.239409asdfakjkn23onasd0-3234
CSeq: 234234 INVITE
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw
C: application/sdp
Contact:
  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>
Content-Length: 150

{sdp1}"
            ),
        ),
        message(
            "3.1.1.4",
            "escnull",
            Taken,
            "REGISTER sip:example.com SIP/2.0
To: sip:null-%00-null@example.com
From: sip:null-%00-null@example.com;tag=839923423
Max-Forwards: 70
Call-ID: escnull.39203ndfvkjdasfkq3w4otrq0adsfdfnavd
CSeq: 14398234 REGISTER
Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw
Contact: <sip:%00@host5.example.com>
Contact: <sip:%00%00@host5.example.com>
L:0

",
        ),
        // % escapes nothing in a method: it is unknown.
        message(
            "3.1.1.5",
            "esc02",
            Status(501),
            "RE%47IST%45R sip:registrar.example.com SIP/2.0
To: \"%Z%45\" <sip:resource@example.com>
From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23
Call-ID: esc02.asdfnqwo34rq23i34jrjasdcnl23nrlknsdf
Via: SIP/2.0/TCP host.example.com;branch=z9hG4bK209%fzsnel234
CSeq: 29344 RE%47IST%45R
Max-Forwards: 70
Contact: <sip:alias1@host1.example.com>
C%6Fntact: <sip:alias2@host2.example.com>
Contact: <sip:alias3@host3.example.com>
l: 0

",
        ),
        message(
            "3.1.1.6",
            "lwsdisp",
            Taken,
            "OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: caller<sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID: lwsdisp.1234abcd@funky.example.com
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP funky.example.com;branch=z9hG4bKkdjuw
l: 0

",
        ),
        message("3.1.1.7", "longreq", Call, &longreq),
        // What follows the first request in the datagram is nothing (RFC 3261 §18.3).
        message(
            "3.1.1.8",
            "dblreq",
            Taken,
            &format!(
                "REGISTER sip:example.com SIP/2.0
To: sip:j.user@example.com
From: sip:j.user@example.com;tag=43251j3j324
Max-Forwards: 8
I: dblreq.0ha0isndaksdj99sdfafnl3lk233412
Contact: sip:j.user@host.example.com
CSeq: 8 REGISTER
Via: SIP/2.0/UDP 192.0.2.125;branch=z9hG4bKkdjuw23492
Content-Length: 0


INVITE sip:joe@example.com SIP/2.0
t: sip:joe@example.com
From: sip:caller@example.net;tag=141334
Max-Forwards: 8
Call-ID: dblreq.0ha0isnda977644900765@192.0.2.15
CSeq: 8 INVITE
Via: SIP/2.0/UDP 192.0.2.15;branch=z9hG4bKkdjuw380234
Content-Type: application/sdp
Content-Length: 150

{}",
                sdp("192.0.2.15", "0 0")
            ),
        ),
        message(
            "3.1.1.9",
            "semiuri",
            Taken,
            "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0
To: sip:j_user@example.com
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
Call-ID: semiuri.0ha0isndaksdj
CSeq: 8 OPTIONS
Accept: application/sdp, application/pkcs7-mime,
        multipart/mixed, multipart/signed,
        message/sip, message/sipfrag
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw
l: 0

",
        ),
        message(
            "3.1.1.10",
            "transports",
            Taken,
            "OPTIONS sip:user@example.com SIP/2.0
To: sip:user@example.com
From: <sip:caller@example.com>;tag=323
Max-Forwards: 70
Call-ID:  transports.kijh4akdnaqjkwendsasfdj
Accept: application/sdp
CSeq: 60 OPTIONS
Via: SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw
Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf
Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj
Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en
Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK0a9idfnee
l: 0

",
        ),
        mpart01(),
        message(
            "3.1.1.12",
            "unreason",
            Read,
            &format!(
                "SIP/2.0 200 = 2**3 * 5**2 {}
Via: SIP/2.0/UDP 192.0.2.198;branch=z9hG4bK1324923
Call-ID: unreason.1234ksdfak3j2erwedfsASdf
CSeq: 35 INVITE
From: sip:user@example.com;tag=11141343
To: sip:user@example.edu;tag=2229
Content-Length: 154
Content-Type: application/sdp
Contact: <sip:user@host198.example.com>

{}",
                "\u{43d}\u{43e} \u{441}\u{442}\u{43e} \u{434}\u{435}\u{432}\u{44f}\u{43d}\u{43e}\u{441}\u{442}\u{43e} \
                 \u{434}\u{435}\u{432}\u{44f}\u{442}\u{44c} - \u{43f}\u{440}\u{43e}\u{441}\u{442}\u{43e}\u{435}",
                sdp("192.0.2.198", "0 0")
            ),
        ),
        message(
            "3.1.1.13",
            "noreason",
            Read,
            "SIP/2.0 100 \nVia: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: noreason.asndj203insdf99223ndf
CSeq: 35 INVITE
From: <sip:user@example.com>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.com>

",
        ),
    ]
}

fn longreq(sdp: &str) -> String {
    let caller = "amazinglylongcallername".repeat(5);
    let (long, name, value) = (|n| "long".repeat(n), |n| "name".repeat(n), |n| "value".repeat(n));
    let mut text = format!(
        "INVITE sip:user@example.com SIP/2.0\n\
         To: \"I have a user name of {} proportion\"<sip:user@example.com:6000;unknownparam1=very{}value\
         ;longparam{}=shortvalue;very{}ParameterNameWithNoValue>\n\
         F: sip:{caller}@example.net;tag=12{}424;unknownheaderparam{}=unknowheaderparam{};unknownValueless{}\n\
         Call-ID: longreq.one{}longcallid\nCSeq: 3882340 INVITE\n\
         Unknown-{}-Name: unknown-{}-value; unknown-{}-parameter-name = unknown-{}-parameter-value\n",
        "extreme".repeat(10),
        long(20),
        name(25),
        long(25),
        "982".repeat(50),
        name(20),
        value(15),
        "paramname".repeat(10),
        "really".repeat(20),
        "Long".repeat(20),
        long(20),
        long(20),
        long(20),
    );
    // The field's name in all its forms.
    let names = [
        "Via:", "v:", "V:", "Via:", "ViA:", "VIa:", "VIA:", "via:", "viA:", "vIa:", "vIA:", "V :", "v :",
        "V  :", "v  :", "Via :", "Via  :",
    ];
    for n in (1..=33).rev() {
        let name = names.get(33 - n).unwrap_or(&"Via:");
        text += &format!("{name} SIP/2.0/TCP sip{n}.example.com\n");
    }
    text + &format!(
        "Via: SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=very{}branchvalue\nMax-Forwards: 70\n\
         Contact: <sip:{caller}@host5.example.net>\nContent-Type: application/sdp\nl: 150\n\n{sdp}",
        long(50)
    )
}

/// The RFC's second part is a certificate; these bytes are as little text as that.
fn mpart01() -> Torture {
    let mut body = b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary\r\n\r\nHello\r\n\
        --7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        .to_vec();
    body.extend((0..=255).rev());
    body.extend_from_slice(b"\r\n--7a9cbec02ceef655--\r\n");
    let mut torture = message(
        "3.1.1.11",
        "mpart01",
        Taken,
        &format!(
            "MESSAGE sip:kumiko@example.org SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK-d87543-4dade06d0bdb11ee-1--d87543-;rport
Max-Forwards: 70
Route: <sip:127.0.0.1:5080>
Identity: r5mwreLuyDRYBi/0TiPwEsY3rEVsk/G2WxhgTV1PF7hHuLIK0YWVKZhKv9Mj8UeXqkMVbnVq37CD+813gvYjcBUaZngQmXc9WNZSDNGC
Contact: <sip:fluffy@127.0.0.1:5070>
To: <sip:kumiko@example.org>
From: <sip:fluffy@example.com>;tag=2fb0dcc9
Call-ID: 3d9485ad0c49859b@Zmx1ZmZ5LW1hYy0xNi5sb2NhbA..
CSeq: 1 MESSAGE
Content-Transfer-Encoding: binary
Content-Type: multipart/mixed;boundary=7a9cbec02ceef655
Date: Sat, 15 Oct 2005 04:44:56 GMT
User-Agent: SIPimp.org/0.2.5 (curses)
Content-Length: {}

",
            body.len()
        ),
    );
    torture.message.extend(body);
    torture
}
