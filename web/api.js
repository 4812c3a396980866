// CAMARA's requests: webrtc-registration and webrtc-call-handling of the server that this page comes from.

const REGISTRATION = '/webrtc-registration/v0.3/sessions';
const CALLS = '/webrtc-call-handling/v0.3/sessions';

/** A refusal in the server's own words; status 0: it was not reached. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
  }
}

export class Api {
  #token;

  constructor(token) {
    this.#token = token;
  }

  get token() {
    return this.#token;
  }

  /** Registers this device, or refreshes the registration that it has; the number is the token's. */
  async register(deviceId) {
    const all = await this.#ask('GET', `${REGISTRATION}?deviceId=${encodeURIComponent(deviceId)}`);
    let refusal;
    for (const { registrationId } of all) {
      try {
        return await this.refresh(registrationId);
      } catch (error) {
        // It may be for another number of this user's, or have ended meanwhile.
        refusal = error;
      }
    }
    try {
      return await this.#ask('POST', REGISTRATION, { deviceId });
    } catch (error) {
      throw error.status === 409 && refusal ? refusal : error;
    }
  }

  refresh(registrationId) {
    return this.#ask('PUT', `${REGISTRATION}/${registrationId}`, {});
  }

  unregister(registrationId) {
    return this.#ask('DELETE', `${REGISTRATION}/${registrationId}`);
  }

  call(registrationId, originatorAddress, receiverAddress, sdp) {
    const body = { originatorAddress, receiverAddress, offer: { sdp } };
    return this.#ask('POST', CALLS, body, { registrationId });
  }

  session(id) {
    return this.#ask('GET', `${CALLS}/${id}`);
  }

  /** `change`: an offer or an answer, where there is one. */
  setStatus(id, status, change = {}) {
    return this.#ask('PUT', `${CALLS}/${id}/status`, { status, ...change });
  }

  hangUp(id) {
    return this.#ask('DELETE', `${CALLS}/${id}`);
  }

  async #ask(method, path, body, more = {}) {
    const headers = { authorization: `Bearer ${this.#token}`, 'x-correlator': crypto.randomUUID(), ...more };
    if (body) headers['content-type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store' });
    } catch {
      throw new ApiError(0, 'UNREACHABLE', 'The server was not reached.');
    }
    const text = await response.text().catch(() => '');
    let document;
    try {
      document = text ? JSON.parse(text) : null;
    } catch {
      document = null;
    }
    if (response.ok) return document;
    const { code, message } = document ?? {};
    throw new ApiError(response.status, code ?? 'UNKNOWN', message ?? `The server answered ${response.status}.`);
  }
}
