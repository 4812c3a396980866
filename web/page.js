// The interface: a registration, the channel that tells of calls, and one call at a time.

import { Api } from './api.js';
import { Call, hasEnded } from './call.js';
import { Channel } from './events.js';

const TOKEN = 'ript-token';
const DEVICE = 'ript-device';
const CALL = 'ript-call';
const KEYS = '123456789*0#';
const LONGEST_TIMER = 2 ** 31 - 1;

const $ = (id) => document.getElementById(id);

let api = null;
let registration = null;
let channel = null;
let channelState = 'is connecting.';
let call = null;
let refreshing = null;
let retry = 1_000;

function deviceId() {
  let id = localStorage.getItem(DEVICE);
  if (!id) {
    id = crypto.randomUUID();
    localStorage.setItem(DEVICE, id);
  }
  return id;
}

function log(text) {
  const item = document.createElement('li');
  item.textContent = `${new Date().toLocaleTimeString()} ${text}`;
  $('log').prepend(item);
  while ($('log').children.length > 50) $('log').lastChild.remove();
}

function failed(error) {
  $('error').textContent = error ? error.message : '';
  $('error').hidden = !error;
  if (error) log(`${error.code ? `${error.code}: ` : ''}${error.message}`);
  if (error?.status === 401) askForToken();
}

/** Does what a button is for; says what went wrong. */
async function attempt(work, button) {
  failed(null);
  if (button) button.disabled = true;
  try {
    await work();
  } catch (error) {
    failed(error);
  } finally {
    if (button) button.disabled = false;
    show();
  }
}

// Registration.

function askForToken() {
  clearTimeout(refreshing);
  channel?.close();
  channel = registration = null;
  sessionStorage.removeItem(TOKEN);
  show();
  $('token').focus();
}

async function register(token) {
  api = new Api(token);
  registration = await api.register(deviceId());
  sessionStorage.setItem(TOKEN, token);
  log(`Registered as ${registration.regInfo.phoneNumber}.`);
  keepAlive();
  listen();
  show();
  await resume();
}

function listen() {
  channel?.close();
  channelState = 'is connecting.';
  channel = new Channel(deviceId(), api.token, {
    event: heard,
    open() {
      channelState = 'hears calls.';
      show();
      call?.catchUp();
    },
    away(why, given) {
      channelState = `hears no calls: ${why}${given ? ' Reload this page to go on here.' : ' Trying again.'}`;
      show();
    },
    lost() {
      log('Events were lost; what there is, is read again.');
      call?.catchUp();
    },
    // Most often the registration has ended, or the token.
    refused: refresh,
  });
}

function keepAlive() {
  clearTimeout(refreshing);
  const left = Date.parse(registration.expiresAt) - Date.now();
  // Early enough for a second try.
  refreshing = setTimeout(refresh, Math.min(Math.max(left * 0.8, 1_000), LONGEST_TIMER));
}

async function refresh() {
  if (!registration) return;
  try {
    registration = await api.refresh(registration.registrationId);
    retry = 1_000;
    keepAlive();
  } catch (error) {
    if (error.status === 404) {
      await renew();
    } else if (error.status >= 400 && error.status < 500) {
      failed(error);
    } else {
      clearTimeout(refreshing);
      refreshing = setTimeout(refresh, retry);
      retry = Math.min(retry * 2, 60_000);
    }
  }
  show();
}

async function renew() {
  try {
    registration = await api.register(deviceId());
    log('The registration had ended; there is a new one.');
    keepAlive();
    if (!channel?.isOpen) listen();
  } catch (error) {
    failed(error);
  }
}

// Calls.

const hooks = {
  change() {
    remember();
    show();
  },
  said: log,
  failed,
  over(one) {
    if (one !== call) return;
    log(`The call is over: ${hasEnded(one.status) ? one.status : 'ended here'}${one.reason ? ` (${one.reason})` : ''}.`);
    call = null;
    remember();
    show();
  },
};

function remember() {
  if (call?.id) sessionStorage.setItem(CALL, JSON.stringify(call.memory));
  else sessionStorage.removeItem(CALL);
}

async function resume() {
  const memory = JSON.parse(sessionStorage.getItem(CALL) ?? 'null');
  if (call || !memory) return;
  try {
    call = await Call.resumed(api, memory, hooks);
    if (call) log('This window had a call; it goes on.');
  } catch (error) {
    if (error.status !== 404) failed(error);
  }
  remember();
  show();
}

function heard(type, data) {
  if (type === 'session-invitation') {
    if (data.mediaSessionId === call?.id) return;
    if (call) {
      log(`${shown(data.originatorAddress)} called meanwhile.`);
      api.setStatus(data.mediaSessionId, 'Busy').catch(() => {});
      return;
    }
    call = Call.invited(api, data, hooks);
    log(`${shown(call.peer)} calls.`);
    call.ring().catch(() => call?.catchUp());
    remember();
    show();
    $('answer').focus();
  } else if (type === 'session-status') {
    call?.heard(data);
  } else if (type === 'registration-ends' && data.registrationId === registration?.registrationId) {
    log(`The registration has ended: ${data.terminationDescription ?? data.terminationReason}`);
    renew().then(show);
  }
}

/** What was typed as an address (webrtc-call-handling.yaml, Address). */
function address(text) {
  const plain = text.trim();
  if (/^(tel|sip|urn):/.test(plain)) return plain;
  if (plain.includes('@')) return `sip:${plain}`;
  const digits = plain.replace(/[\s().\/-]/g, '');
  if (/^\+[1-9][0-9]{4,14}$/.test(digits)) return `tel:${digits}`;
  throw new Error('A number with its country code is expected, as +14085550002, or an address as sip:alice@example.com.');
}

// What is seen.

const shown = (peer) => peer.replace(/^(tel|sip):/, '');

function show() {
  const number = registration?.regInfo.phoneNumber;
  const until = registration && new Date(registration.expiresAt).toLocaleTimeString();
  $('line').textContent = registration ? `${number}: registered until ${until}; this window ${channelState}` : 'Not registered';
  $('login').hidden = Boolean(registration);
  $('logout').hidden = !registration;
  $('dial').hidden = !registration || Boolean(call);
  const rings = Boolean(call?.ringsHere);
  $('invitation').hidden = !rings;
  $('call').hidden = !call || rings;
  document.title = rings ? `${shown(call.peer)} calls` : 'ript: a phone in a page';
  if (!call) {
    $('remote-audio').srcObject = $('remote-video').srcObject = $('local-video').srcObject = null;
    $('listen').hidden = true;
    $('media').textContent = '';
    return;
  }
  $('caller').textContent = `${shown(call.peer)} calls`;
  $('peer').textContent = shown(call.peer);
  const held = call.held ? 'You hold this call. ' : '';
  const text = `${held}${call.status}${call.reason ? `: ${call.reason}` : ''}${call.recovering ? '. Connecting anew' : ''}`;
  if ($('status').textContent !== text) $('status').textContent = text;
  $('call').dataset.status = call.status;
  $('hold').setAttribute('aria-pressed', String(call.held));
  $('hold').textContent = call.held ? 'Resume' : 'Hold';
  $('hold').disabled = $('video').disabled = !call.answered;
  $('video').hidden = call.sendsVideo;
  for (const button of $('keys').children) button.disabled = !call.answered || call.held;
  media();
}

function media() {
  const [sound] = call.remote.getAudioTracks();
  const [picture] = call.remote.getVideoTracks();
  play($('remote-audio'), sound);
  // A track that is muted brings nothing yet.
  play($('remote-video'), picture && !picture.muted ? picture : null);
  play($('local-video'), call.ownVideo);
}

function play(element, track) {
  if (element.tagName === 'VIDEO') element.hidden = !track;
  if ((element.srcObject?.getTracks()[0] ?? null) === (track ?? null)) return;
  element.srcObject = track ? new MediaStream([track]) : null;
  // Without a press of a button before, as after a reload, a browser may refuse to make a sound.
  if (track) element.play().then(() => silent(false), (error) => error.name === 'NotAllowedError' && silent(true));
}

function silent(is) {
  $('listen').hidden = !is;
}

async function figures() {
  if (!call || call.ringsHere) return;
  const { heard: got, lost, sent, width, height } = await call.figures();
  if (!call) return;
  const size = width ? `; picture ${width} × ${height}` : '';
  $('media').textContent = `Media: ${call.connection}. Audio packets: ${sent} sent, ${got} heard, ${lost} lost${size}.`;
}

// What people do.

$('login').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    await register($('token').value.trim());
    $('token').value = '';
  }, event.submitter);
});

$('dial').addEventListener('submit', (event) => {
  event.preventDefault();
  attempt(async () => {
    const to = address($('number').value);
    call = new Call(api, 'originator', to, hooks);
    show();
    await call.start(registration.registrationId, `tel:${registration.regInfo.phoneNumber}`);
  }, event.submitter);
});

const press = (id, work) => $(id).addEventListener('click', () => attempt(work, $(id)));
press('answer', () => call.answer());
press('decline', () => call.refuse('Declined'));
press('hangup', () => call.hangUp());
press('hold', () => call.hold(!call.held));
press('video', () => call.addVideo());
press('listen', () => $('remote-audio').play().then(() => silent(false)));
press('logout', async () => {
  if (call) await call.hangUp();
  const { registrationId } = registration;
  // First of all: the end that is told next is no reason to register anew.
  askForToken();
  await api.unregister(registrationId);
});

for (const key of KEYS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = key;
  button.addEventListener('click', () => attempt(async () => call.press(key)));
  $('keys').append(button);
}

/** A link brings a token in its fragment, which no browser sends; it doesn't stay in the address bar. */
function tokenOfLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (location.hash) history.replaceState(null, '', location.pathname);
  return token;
}

function begin() {
  const token = tokenOfLink() ?? sessionStorage.getItem(TOKEN);
  if (token) attempt(() => register(token));
  show();
}

addEventListener('hashchange', begin);
document.addEventListener('visibilitychange', () => {
  // Timers rest while a phone sleeps.
  if (document.visibilityState === 'visible' && registration && Date.parse(registration.expiresAt) - Date.now() < 60_000) refresh();
});
setInterval(figures, 2_000);
begin();
