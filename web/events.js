// What the server tells this device: a WebSocket that comes back by itself, and goes on where it was cut off.

const CHANNELS = '/webrtc-events/v0.3/channels/';
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;

// Why the server closes a channel (RFC 6455 §7.4.2: its own codes).
const REPLACED = 4000;
const TOKEN_EXPIRED = 4001;
const LOST = 4003;

/**
 * `on.event(type, data)`: `type` is the last word of the event's own. `on.open()`. `on.away(why, given)`: it is cut off; `given`
 * up, or about to come back. `on.lost()`: events are missing, so what is known has to be read again. `on.refused()`: it did not
 * open, and a browser does not say why.
 */
export class Channel {
  #deviceId;
  #token;
  #on;
  #socket = null;
  #timer = null;
  #wait = FIRST_WAIT;
  #closed = false;
  #seen = [];
  #online = () => this.#again(0);

  constructor(deviceId, token, on) {
    this.#deviceId = deviceId;
    this.#token = token;
    this.#on = on;
    addEventListener('online', this.#online);
    this.#open();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    removeEventListener('online', this.#online);
    this.#drop();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  // A reload of the page goes on where it was, too.
  get #key() {
    return `ript-after-${this.#deviceId}`;
  }

  #open() {
    this.#drop();
    const url = new URL(CHANNELS + this.#deviceId, location.href.replace(/^http/, 'ws'));
    const after = sessionStorage.getItem(this.#key);
    if (after) url.searchParams.set('after', after);
    let socket;
    try {
      // A page can set no header here: the token goes as a subprotocol, never in the address.
      socket = new WebSocket(url, ['camara-events', `bearer.${this.#token}`]);
    } catch (error) {
      this.#on.away(`This token can't open a channel: ${error.message}`, true);
      return;
    }
    let opened = false;
    this.#socket = socket;
    socket.onopen = () => {
      opened = true;
      this.#wait = FIRST_WAIT;
      this.#on.open();
    };
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => {
      if (this.#closed || socket !== this.#socket) return;
      this.#socket = null;
      if (code === REPLACED || code === TOKEN_EXPIRED) {
        this.#on.away(reason, true);
        return;
      }
      if (code === LOST) {
        sessionStorage.removeItem(this.#key);
        this.#on.lost();
      }
      this.#on.away(reason || 'The connection was cut off.', false);
      if (!opened) this.#on.refused();
      this.#again(this.#wait);
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    };
  }

  #again(wait) {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => this.#open(), wait);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #heard(text) {
    let event;
    try {
      event = JSON.parse(text);
    } catch {
      return;
    }
    if (typeof event?.id !== 'string' || typeof event.type !== 'string') return;
    // What was not confirmed in time comes again.
    if (this.#seen.includes(event.id)) return;
    this.#seen.push(event.id);
    if (this.#seen.length > 256) this.#seen.shift();
    sessionStorage.setItem(this.#key, event.id);
    this.#on.event(event.type.split('.').at(-1), event.data ?? {});
  }
}
