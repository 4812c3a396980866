// The scenarios. Each prints one line.
import { browser, Client, crash, Failed, holds, Phone, printedLinks, recording, until } from './lib.mjs';

const ALICE = '+14085550001';
const BOB = '+14085550002';
const CAROL = '+14085550003';

// The voices are 4.3 s long, and packets come 50 times a second: a voice is in a recording as a whole three times, wherever that
// begins. Once has to be good: two Chromiums and a server on two cores stutter now and then.
const ENOUGH = 900;

let callers;
let callees;
const open = [];

/** A page of its own; `voice` is what its microphone says. */
async function phone(voice, name, number) {
  const one = await Phone.open(voice === 'caller' ? callers : callees, name, number);
  open.push(one);
  return one;
}

async function client(number, ...args) {
  const one = await Client.start(number, ...args);
  open.push({ close: () => one.process.kill('SIGKILL') });
  return one;
}

const scenarios = {
  async 'page to client'() {
    const bob = await client(BOB, 'listen', '--once', '--record', recording('a-client.wav'));
    await bob.says('client-listening');
    const alice = await phone('caller', 'alice', ALICE);
    await alice.call(BOB);
    await alice.connected();
    await until('sound', async () => (await alice.counts()).heard > 0);
    await alice.record();
    await alice.talks(ENOUGH);
    await alice.keep('a-page.wav');
    await alice.press('5');
    await bob.says('client-dtmf', ({ digit }) => digit === '5');
    await alice.press('Hold');
    await alice.says('#status', 'You hold this call. Hold');
    await bob.says('hold');
    await alice.hearsNothing();
    await alice.press('Resume');
    await alice.says('#status', 'Resume');
    await bob.says('resume');
    await alice.talks(50);
    await alice.press('Hang up');
    await alice.over('');
    await bob.ends();
    const heard = [await holds('caller', 'a-client.wav'), await holds('callee', 'a-page.wav')];
    return `registered, called, answered, speech both ways (correlation ${heard.join(' and ')}), key 5, held, resumed, ended by the page`;
  },

  async 'client to page'() {
    const bob = await phone('callee', 'bob', BOB);
    const alice = await client(ALICE, 'call', BOB, '--record', recording('b-client.wav'));
    await bob.says('#caller', `${ALICE} calls`);
    await alice.says('alerting');
    await bob.press('Answer');
    await bob.connected();
    await until('sound', async () => (await bob.counts()).heard > 0);
    await bob.record();
    await bob.talks(ENOUGH);
    await bob.keep('b-page.wav');
    await bob.press('7');
    await alice.says('client-dtmf', ({ digit }) => digit === '7');
    await bob.press('Hold');
    await alice.says('hold');
    await bob.hearsNothing();
    await bob.press('Resume');
    await alice.says('resume');
    await bob.talks(50);
    alice.hangUp();
    await bob.over('Terminated');
    await alice.ends();
    const heard = [await holds('callee', 'b-client.wav'), await holds('caller', 'b-page.wav')];
    return `rung, answered, speech both ways (correlation ${heard.join(' and ')}), key 7, held, resumed, ended by the client`;
  },

  async 'page to page'() {
    const [alice, bob] = await pages();
    await Promise.all([alice.record(), bob.record()]);
    await Promise.all([alice.talks(ENOUGH), bob.talks(ENOUGH)]);
    await alice.keep('c-alice.wav');
    await bob.keep('c-bob.wav');
    const heard = [await holds('callee', 'c-alice.wav'), await holds('caller', 'c-bob.wav')];
    await bob.press('Hold');
    await alice.says('#status', 'Hold: the other side holds the call');
    await alice.hearsNothing();
    await bob.press('Resume');
    await alice.says('#status', 'Resume: the other side goes on');
    await Promise.all([alice.talks(50), bob.talks(50)]);
    await bob.press('Hang up');
    await alice.over('Terminated');
    return `speech both ways (correlation ${heard.join(' and ')}), held and resumed by the callee, ended by the callee`;
  },

  async 'video'() {
    const [alice, bob] = await pages();
    await alice.press('Add video');
    const sees = (one) => until(`${one.number}: a picture`, async () => {
      const counts = await one.counts();
      return counts.decoded > 30 && counts.width;
    });
    const first = await sees(bob);
    await bob.page.locator('#remote-video').waitFor();
    await bob.press('Add video');
    const second = await sees(alice);
    await Promise.all([alice.talks(50), bob.talks(50)]);
    await alice.press('Hang up');
    await bob.over('Terminated');
    return `added by the caller (${first} pixels wide at the callee), then by the callee (${second}), with sound all the time`;
  },

  async 'decline'() {
    const [alice, bob] = [await phone('caller', 'alice', ALICE), await phone('callee', 'bob', BOB)];
    await alice.call(BOB);
    await alice.says('#status', 'Ringing');
    await bob.press('Decline');
    await alice.over('Declined');
    await bob.over('');
    await alice.call(BOB);
    await bob.says('#caller', 'calls');
    await alice.press('Hang up');
    await bob.over('SessionCancelled');
    return 'declined by the callee, then cancelled by the caller';
  },

  async 'recovery'() {
    const [alice, bob] = await pages();
    // Its connection is closed under the page, which is then told what a browser tells of one that failed.
    await bob.page.evaluate(() => {
      const [lost] = window.connections.slice(-1);
      lost.close();
      Object.defineProperty(lost, 'connectionState', { value: 'failed' });
      lost.dispatchEvent(new Event('connectionstatechange'));
    });
    await bob.says('#log', 'made anew');
    await Promise.all([alice.talks(50), bob.talks(50)]);
    await alice.page.reload();
    await alice.says('#log', 'This window had a call; it goes on.');
    await Promise.all([alice.talks(50), bob.talks(50)]);
    await Promise.all([alice.record(), bob.record()]);
    await Promise.all([alice.talks(ENOUGH), bob.talks(ENOUGH)]);
    await alice.keep('r-alice.wav');
    await bob.keep('r-bob.wav');
    const heard = [await holds('callee', 'r-alice.wav'), await holds('caller', 'r-bob.wav')];
    const sockets = await bob.page.evaluate(() => {
      window.sockets.at(-1).close();
      return window.sockets.length;
    });
    await alice.press('Hang up');
    await bob.over('Terminated');
    await until('a new channel', () => bob.page.evaluate((before) => window.sockets.length > before, sockets));
    await alice.call(BOB);
    await bob.says('#caller', 'calls');
    await alice.press('Hang up');
    await bob.over('SessionCancelled');
    return `a failed connection and a page loaded anew got new ones (then correlation ${heard.join(' and ')}); a channel that was cut off came back`;
  },

  async 'link'() {
    const [first] = printedLinks();
    const alice = await Phone.visit(callers, 'alice', ALICE, first);
    open.push(alice);
    const address = await alice.page.evaluate(() => location.href);
    if (address.includes('#') || address.includes('token')) throw new Failed(`the token stays in the address: ${address}`);
    return 'what ript serve --dev prints registers its user, and the token leaves the address';
  },

  async 'crash'() {
    const [alice, bob] = await pages();
    await crash();
    for (const one of [alice, bob]) {
      await one.says('#log', 'made anew');
      await one.says('#line', 'hears calls');
    }
    await Promise.all([alice.talks(50), bob.talks(50)]);
    await Promise.all([alice.record(), bob.record()]);
    await Promise.all([alice.talks(ENOUGH), bob.talks(ENOUGH)]);
    await alice.keep('k-alice.wav');
    await bob.keep('k-bob.wav');
    const heard = [await holds('callee', 'k-alice.wav'), await holds('caller', 'k-bob.wav')];
    await alice.press('Hang up');
    await bob.over('Terminated');
    return `kill -9 of the server in a call, and a restart: the call goes on (then correlation ${heard.join(' and ')})`;
  },

  async 'errors'() {
    const alice = await phone('caller', 'alice', ALICE);
    await alice.call('12345');
    await alice.says('#error', 'country code');
    await alice.call('+14085559999');
    await alice.over('NotReachable');
    const carol = await phone('callee', 'carol', CAROL);
    await carol.press('Unregister and forget the token');
    await carol.page.getByLabel('Access token').fill('nonsense');
    await carol.press('Register');
    await carol.page.locator('#error:visible').waitFor();
    const said = await carol.page.locator('#error').innerText();
    if (said.length < 10) throw new Failed(`the server's message is not shown: ${said}`);
    return `a bad number, one that nobody has, and a bad token ("${said.slice(0, 60)}")`;
  },
};

/** Two pages in a call. */
async function pages() {
  const [alice, bob] = [await phone('caller', 'alice', ALICE), await phone('callee', 'bob', BOB)];
  await alice.call(BOB);
  await bob.says('#caller', `${ALICE} calls`);
  await bob.press('Answer');
  await Promise.all([alice.connected(), bob.connected()]);
  await Promise.all([alice.talks(20), bob.talks(20)]);
  return [alice, bob];
}

/** Leaves nothing behind for the next one. */
async function tidy() {
  for (const one of open.splice(0)) {
    if (one.close) one.close();
    else {
      const logout = one.page.getByRole('button', { name: 'Unregister and forget the token' });
      if (await logout.isVisible().catch(() => false)) {
        await logout.click();
        await one.page.locator('#login').waitFor({ timeout: 10_000 }).catch(() => {});
      }
      await one.page.context().close();
    }
  }
}

const wanted = process.argv.slice(2);
const names = Object.keys(scenarios).filter((name) => !wanted.length || wanted.some((word) => name.startsWith(word)));
let failures = 0;
callers = await browser('caller');
callees = await browser('callee');
console.log(`Chromium ${callers.version()}`);
for (const name of names) {
  try {
    console.log(`ok: ${name}: ${await scenarios[name]()}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL: ${name}: ${error instanceof Failed ? error.message : error.stack}`);
    for (const { number, errors, page } of open.filter((one) => one.page)) {
      console.log(`  ${number}: ${errors.join(' | ')}\n${await page.locator('body').innerText().catch(() => '')}`);
    }
  }
  await tidy().catch((error) => console.log(`  tidying: ${error.message}`));
}
await Promise.all([callers.close(), callees.close()]);
console.log(failures ? `${failures} of ${names.length} scenarios failed` : `all ${names.length} scenarios hold`);
process.exit(failures ? 1 : 0);
