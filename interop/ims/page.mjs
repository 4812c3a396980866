// The page of `web/` in Chromium, and telephones of the IMS core; interop/chromium/run.sh starts it with CHECK, and
// page_scenarios.py has the telephones. A line that begins with `do` asks for something to be done there.
import { browser, Failed, holds, Phone, until } from './lib.mjs';

const [PAGE, BOB] = ['+15550008', '+15550002'];
// Two repetitions of a voice.
const ENOUGH = 450;

const chromium = await browser('caller');
let page;

async function speech(file) {
  await until('sound', async () => (await page.counts()).heard > 0);
  await page.record();
  await page.talks(ENOUGH);
  await page.keep(file);
  return holds('callee', file);
}

const scenarios = {
  async 'page to phone'() {
    await page.call(BOB);
    await page.connected();
    const heard = await speech('to-phone.wav');
    await page.press('5');
    await page.press('Hold');
    await page.says('#status', 'You hold this call. Hold');
    await page.hearsNothing();
    await page.press('Resume');
    await page.says('#status', 'Resume');
    await page.talks(50);
    await page.press('Hang up');
    await page.over('');
    return `answered, speech (correlation ${heard} at the page), key 5, held, resumed, ended by the page`;
  },

  async 'phone to page'() {
    console.log('do dial');
    await page.says('#caller', 'calls');
    await page.press('Answer');
    await page.connected();
    const heard = await speech('from-phone.wav');
    console.log('do hang up');
    await page.over('Terminated');
    return `rung, answered, speech (correlation ${heard} at the page), ended by the phone`;
  },

  async 'deregistered'() {
    console.log('do deregister');
    await page.says('#log', 'The registration has ended');
    return 'the network deregisters the number: the page is told by registration-ends';
  },
};

let failed = false;
try {
  page = await Phone.open(chromium, 'page', PAGE);
  for (const [name, scenario] of Object.entries(scenarios)) {
    console.log(`ok ${name}: ${await scenario()}`);
  }
} catch (error) {
  failed = true;
  console.log(`FAIL ${error instanceof Failed ? error.message : error.stack}`);
}
await chromium.close();
process.exit(failed ? 1 : 0);
