// Plays the browser of a person who logs in: follows redirects with cookies until the loopback redirect URI,
// fetches that, and prints it. Usage: node browser.mjs URL [ACCOUNT]. NODE_EXTRA_CA_CERTS for a CA of one's own.
let url = new URL(process.argv[2]);
if (process.argv[3]) url.searchParams.set('login_hint', process.argv[3]);
const provider = url.origin;
const jar = new Map();
for (let hop = 0; hop < 20; hop += 1) {
  const own = url.origin === provider;
  const cookie = own ? [...jar].map(([name, value]) => `${name}=${value}`).join('; ') : '';
  const response = await fetch(url, { redirect: 'manual', headers: cookie ? { cookie } : {} });
  for (const set of own ? response.headers.getSetCookie() : []) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(set);
    if (value) jar.set(name, value);
    else jar.delete(name);
  }
  const location = response.headers.get('location');
  if (!own || !location) {
    console.log(url.href);
    if (!response.ok) console.error(await response.text());
    process.exit(response.ok ? 0 : 1);
  }
  url = new URL(location, url);
}
console.error('too many redirects');
process.exit(1);
