// What the scenarios stand on: tokens, browsers with their pages, RIPT clients as processes, recordings.
import { execFile, spawn } from 'node:child_process';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const { RIPT, WORK, ISSUER, SERVER, SPEECH } = process.env;
export const CA = `${WORK}/data/ca.pem`;
/** How long anything may take here: the machine is small, and others use it too. */
export const PATIENCE = 60_000;

export class Failed extends Error {}

/** Waits until `what` gives something. */
export async function until(why, what) {
  for (const end = Date.now() + PATIENCE; ; ) {
    const found = await what();
    if (found) return found;
    if (Date.now() > end) throw new Failed(`${why}: not within ${PATIENCE / 1000} s`);
    await new Promise((go) => setTimeout(go, 100));
  }
}

// Tokens.

const RIPT_SCOPES = 'ript:calls ript:handlers ript:certs';
const PAGE_SCOPES = [
  ...['create', 'read', 'write', 'delete'].flatMap((right) => [
    `webrtc-registration:sessions:${right}`,
    `webrtc-call-handling:sessions:${right}`,
  ]),
  ...['session-invitation', 'session-status', 'registration-ends'].map(
    (type) => `webrtc-events:org.camaraproject.webrtc-events.v0.${type}:create`,
  ),
].join(' ');

/** A number's token: the device grant (RFC 8628), with the person's part done by the provider's back door. */
async function token(number, scope) {
  const post = async (path, form) => {
    const body = new URLSearchParams({ client_id: 'ript-cli', ...form });
    const response = await fetch(ISSUER + path, { method: 'POST', body });
    const answer = await response.json();
    if (!response.ok) throw new Failed(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const device = await post('/device/auth', { scope, resource: 'urn:ript' });
  const person = new URLSearchParams({ user_code: device.user_code, account: number });
  await (await fetch(`${ISSUER}/test/device?${person}`)).text();
  const grant = 'urn:ietf:params:oauth:grant-type:device_code';
  return (await post('/token', { grant_type: grant, device_code: device.device_code })).access_token;
}

// Browsers.

/** A Chromium whose microphone says what a file holds, over and over. */
export function browser(voice) {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    ignoreDefaultArgs: ['--disable-quic'],
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost, EXCLUDE 127.0.0.1',
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
      `--use-file-for-fake-audio-capture=${SPEECH}/${voice}.wav`,
    ],
  });
}

/** The page as one of its users sees it. */
export class Phone {
  static async open(of, name, number) {
    return Phone.visit(of, name, number, `${SERVER}/web/#token=${await token(number, PAGE_SCOPES)}`);
  }

  static async visit(of, name, number, link) {
    const phone = new Phone();
    phone.number = number;
    phone.errors = [];
    const context = await of.newContext({ ignoreHTTPSErrors: true, viewport: { width: 375, height: 667 } });
    phone.page = await context.newPage();
    phone.page.on('pageerror', (error) => phone.errors.push(String(error)));
    phone.page.on('console', (message) => {
      if (message.type() === 'error') phone.errors.push(message.text());
    });
    if (process.env.VERBOSE) phone.page.on('console', (message) => console.error(name, message.text()));
    // The page keeps its connections to itself; the checks look at them.
    await phone.page.addInitScript(() => {
      window.connections = [];
      window.sockets = [];
      const { RTCPeerConnection, WebSocket } = window;
      window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...how) {
          super(...how);
          window.connections.push(this);
        }
      };
      window.WebSocket = class extends WebSocket {
        constructor(...how) {
          super(...how);
          window.sockets.push(this);
        }
      };
    });
    await phone.page.goto(link);
    await phone.says('#line', `${number}: registered`);
    await phone.says('#line', 'hears calls');
    return phone;
  }

  /** Waits until an element says something. */
  async says(selector, text) {
    try {
      await this.page.locator(selector).filter({ hasText: text }).waitFor({ timeout: PATIENCE });
    } catch {
      const seen = await this.page.locator('body').innerText();
      throw new Failed(`${this.number}: ${selector} does not say ${text}; the page:\n${seen}\n${this.errors.join('\n')}`);
    }
  }

  press(name) {
    return this.page.getByRole('button', { name, exact: true }).click({ timeout: PATIENCE });
  }

  async call(number) {
    await this.page.getByLabel('Number to call').fill(number);
    await this.press('Call');
  }

  connected() {
    return this.says('#status', 'Connected');
  }

  over(how) {
    return this.says('#log', `The call is over: ${how}`);
  }

  /** What was sent and received by the newest connection. */
  counts() {
    return this.page.evaluate(async () => {
      const counts = { sent: 0, heard: 0, decoded: 0, width: 0, videoSent: 0 };
      const stats = await window.connections.at(-1)?.getStats();
      for (const one of stats?.values() ?? []) {
        if (one.type === 'outbound-rtp' && one.kind === 'audio') counts.sent += one.packetsSent;
        if (one.type === 'inbound-rtp' && one.kind === 'audio') counts.heard += one.packetsReceived;
        if (one.type === 'outbound-rtp' && one.kind === 'video') counts.videoSent += one.framesSent ?? 0;
        if (one.type === 'inbound-rtp' && one.kind === 'video') {
          counts.decoded += one.framesDecoded ?? 0;
          counts.width = one.frameWidth ?? counts.width;
        }
      }
      return counts;
    });
  }

  /** Waits until so much more was sent and heard. */
  async talks(packets) {
    const before = await this.counts();
    await until(`${this.number}: ${packets} packets both ways`, async () => {
      const now = await this.counts();
      return now.sent >= before.sent + packets && now.heard >= before.heard + packets;
    });
  }

  /** Waits until nothing more is heard, though time passes: somebody holds. */
  async hearsNothing() {
    await until(`${this.number}: silence`, async () => {
      const before = (await this.counts()).heard;
      await new Promise((go) => setTimeout(go, 400));
      return (await this.counts()).heard === before;
    });
  }

  /** Records what the page plays. */
  record() {
    return this.page.evaluate(() => {
      const track = document.getElementById('remote-audio').srcObject.getAudioTracks()[0];
      const recorder = new MediaRecorder(new MediaStream([track]), { audioBitsPerSecond: 64_000 });
      const pieces = [];
      recorder.ondataavailable = ({ data }) => pieces.push(data);
      window.recorded = new Promise((done) => {
        recorder.onstop = () => done(new Blob(pieces));
      });
      window.recorder = recorder;
      recorder.start();
    });
  }

  /** Ends the recording, and writes it as WAV. */
  async keep(file) {
    const base64 = await this.page.evaluate(async () => {
      window.recorder.stop();
      const context = new OfflineAudioContext(1, 48_000, 48_000);
      const samples = (await context.decodeAudioData(await (await window.recorded).arrayBuffer())).getChannelData(0);
      const pcm = new Int16Array(samples.length);
      samples.forEach((sample, at) => {
        pcm[at] = Math.max(-1, Math.min(1, sample)) * 32_767;
      });
      const bytes = new Uint8Array(pcm.buffer);
      let text = '';
      for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
      return btoa(text);
    });
    const pcm = Buffer.from(base64, 'base64');
    const head = Buffer.alloc(44);
    head.write('RIFF', 0);
    head.writeUInt32LE(36 + pcm.length, 4);
    head.write('WAVEfmt ', 8);
    [16, 0x0001_0001].forEach((value, at) => head.writeUInt32LE(value, 16 + 4 * at));
    [48_000, 96_000, 0x0010_0002].forEach((value, at) => head.writeUInt32LE(value, 24 + 4 * at));
    head.write('data', 36);
    head.writeUInt32LE(pcm.length, 40);
    writeFileSync(`${WORK}/${file}`, Buffer.concat([head, pcm]));
  }
}

// RIPT clients.

/** `ript listen` or `ript call`, and what it says. */
export class Client {
  events = [];
  errors = '';

  static async start(number, ...args) {
    const client = new Client();
    const environment = { ...process.env, RIPT_TOKEN: await token(number, RIPT_SCOPES), RIPT_CA: CA, RIPT_SERVER: SERVER };
    client.process = spawn(RIPT, ['--log', 'warn', ...args, '--json'], { env: environment });
    let rest = '';
    client.process.stdout.on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      client.events.push(...lines.map((line) => JSON.parse(line)));
    });
    client.process.stderr.on('data', (data) => {
      client.errors += data;
    });
    client.exit = new Promise((done) => client.process.on('exit', done));
    return client;
  }

  /** Waits for an event. */
  says(name, fits = () => true) {
    return until(`the client says ${name}`, () => {
      const found = this.events.find((event) => event.event === name && fits(event));
      if (!found && this.process.exitCode !== null) {
        throw new Failed(`the client left with ${this.process.exitCode}: ${this.errors}`);
      }
      return found;
    });
  }

  hangUp() {
    this.process.kill('SIGINT');
  }

  async ends() {
    const code = await this.exit;
    if (code !== 0) throw new Failed(`the client left with ${code}: ${this.errors} ${JSON.stringify(this.events.at(-1))}`);
  }
}

/** How much a recording is like a voice that was said over and over; fails where it is not. */
export function holds(voice, file) {
  return new Promise((done, fail) => {
    execFile(RIPT, ['compare', voice, `${WORK}/${file}`, '--within', '14'], (error, said, errors) => {
      if (error) fail(new Failed(`${file}: ${said || errors}`));
      else done(/correlation ([0-9.]+)/.exec(said)[1]);
    });
  });
}

// The server.

let again;

/** Kills the server, and starts it again. */
export async function crash() {
  process.kill(Number(process.env.SERVER_PID), 'SIGKILL');
  const log = openSync(`${WORK}/server-again.log`, 'a');
  again = spawn(RIPT, ['serve', '--dev', '--config', `${WORK}/ript.toml`], { stdio: ['ignore', 'ignore', log] });
  process.on('exit', () => again.kill('SIGKILL'));
  await until('the server listens again', () => {
    if (again.exitCode !== null) throw new Failed(readFileSync(`${WORK}/server-again.log`, 'utf8'));
    return readFileSync(`${WORK}/server-again.log`, 'utf8').includes('listening');
  });
}

/** What the server said on its standard output. */
export const printedLinks = () => readFileSync(`${WORK}/links`, 'utf8').match(/https:\S+/g);

export const recording = (file) => `${WORK}/${file}`;
