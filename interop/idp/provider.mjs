// A real OpenID provider for tests. It lets anybody in as anybody: never run it where anybody else can reach it.
//
// PORT (0: a free one), HOST (127.0.0.1), CERT and KEY (PEM files: https), ACCESS_TTL (seconds, 300),
// MACHINE_SECRET, SERVER_SECRET, NUMBERS and TGS (comma-separated claims; default: the account's number, and `*`).
// Prints one JSON line {"issuer": …} when ready; GET /test/seen counts requests by path.
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';

const env = process.env;
const host = env.HOST ?? '127.0.0.1';
const ttl = Number(env.ACCESS_TTL ?? 300);
const list = (text) => text.split(',').filter(Boolean);
// What clients get that ask for nothing else, and what they may ask for besides.
const SCOPES = 'ript:calls ript:handlers ript:certs ript:trunks';
const rights = (api, names) => names.map((name) => `${api}:${name}`);
const event = 'webrtc-events:org.camaraproject.webrtc-events.v0';
const ALL_SCOPES = [
  SCOPES,
  ...['webrtc-registration:sessions', 'webrtc-call-handling:sessions']
    .flatMap((api) => rights(api, ['create', 'read', 'write', 'delete'])),
  ...['session-invitation', 'session-status', 'registration-ends'].map((type) => `${event}.${type}:create`),
  ...rights('webrtc-events', ['read', 'update', 'delete']),
].join(' ');
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code';
const server = env.CERT
  ? createSecureServer({ cert: readFileSync(env.CERT), key: readFileSync(env.KEY) })
  : createServer();

server.listen(Number(env.PORT ?? 0), host, () => {
  const issuer = `${env.CERT ? 'https' : 'http'}://${host}:${server.address().port}`;
  const provider = new Provider(issuer, settings());
  provider.use(backDoors(provider));
  const answer = provider.callback();
  const seen = {};
  server.on('request', (request, response) => {
    const { pathname } = new URL(request.url, issuer);
    if (pathname === '/test/seen') {
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify(seen));
    }
    seen[pathname] = (seen[pathname] ?? 0) + 1;
    answer(request, response);
  });
  console.log(JSON.stringify({ issuer }));
});

function settings() {
  // Each start has a new key: a restart is a key rotation.
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = { ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' };
  const resource = (accessTokenFormat) => ({
    scope: ALL_SCOPES,
    audience: 'ript',
    accessTokenTTL: ttl,
    accessTokenFormat,
    ...(accessTokenFormat === 'jwt' && { jwt: { sign: { alg: 'ES256' } } }),
  });
  // `urn:ript:opaque` is the same server, asked for with tokens that only introspection can read.
  const resources = { 'urn:ript': resource('jwt'), 'urn:ript:opaque': resource('opaque') };
  return {
    jwks: { keys: [key] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    clients: [
      {
        client_id: 'machine',
        client_secret: env.MACHINE_SECRET ?? 'machine-secret-for-tests',
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
      },
      {
        client_id: 'ript-server',
        client_secret: env.SERVER_SECRET ?? 'server-secret-for-tests',
        grant_types: [],
        response_types: [],
        redirect_uris: [],
      },
      {
        client_id: 'ript-cli',
        token_endpoint_auth_method: 'none',
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token', DEVICE],
        response_types: ['code'],
        // RFC 8252 §7.3: the port of a loopback redirect may vary.
        redirect_uris: ['http://127.0.0.1/callback', 'http://[::1]/callback'],
      },
    ],
    ttl: {
      AccessToken: ttl, ClientCredentials: ttl, RefreshToken: 86400, DeviceCode: 600,
      Grant: 86400, IdToken: 3600, Interaction: 3600, Session: 86400,
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === 'ript-server' },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:ript',
        useGrantedResource: () => true,
        getResourceServerInfo: (_, indicator) => {
          if (!(indicator in resources)) throw new Error(`no such resource: ${indicator}`);
          return resources[indicator];
        },
      },
    },
    pkce: { required: () => true },
    issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
    interactions: { url: (_, interaction) => `/test/login/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: (_, token) => ({
      numbers: env.NUMBERS !== undefined ? list(env.NUMBERS) : list(token.accountId ?? '*'),
      tgs: list(env.TGS ?? '*'),
    }),
  };
}

// What a person would do in a browser. `login_hint` (or `account`) says who they are, without a password.
function backDoors(provider) {
  const grantAll = (accountId, clientId) => {
    const grant = new provider.Grant({ accountId, clientId });
    grant.addOIDCScope('openid offline_access');
    grant.addResourceScope('urn:ript', ALL_SCOPES);
    grant.addResourceScope('urn:ript:opaque', ALL_SCOPES);
    return grant.save();
  };
  return async (ctx, next) => {
    if (ctx.path.startsWith('/test/login/')) {
      const { params, prompt, session } = await provider.interactionDetails(ctx.req, ctx.res);
      const account = session?.accountId ?? params.login_hint;
      if (!account) ctx.throw(400, 'a test says who logs in: login_hint=+14085551000');
      const result = prompt.name === 'login'
        ? { login: { accountId: account } }
        : { consent: { grantId: await grantAll(account, params.client_id) } };
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result));
    } else if (ctx.path === '/test/device') {
      // ?user_code=…&account=…, or &deny=1.
      const code = await provider.DeviceCode.findByUserCode(String(ctx.query.user_code).replace(/\W/g, ''));
      if (!code) ctx.throw(404, 'no such user_code');
      if (ctx.query.deny) {
        Object.assign(code, { error: 'access_denied', errorDescription: 'denied by the test' });
      } else {
        const accountId = ctx.query.account ?? '+14085551000';
        const resource = code.params.resource ?? 'urn:ript';
        Object.assign(code, {
          accountId,
          grantId: await grantAll(accountId, code.clientId),
          authTime: Math.floor(Date.now() / 1000),
          scope: code.params.scope ?? SCOPES,
          resource,
        });
      }
      await code.save();
      ctx.body = { done: true };
    } else {
      await next();
    }
  };
}
