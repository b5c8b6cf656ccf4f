import assert from 'node:assert/strict';
import { eventually, onBothBackEnds, open, otherSite } from './example.js';

const said = (page) => page.locator('#said li').allTextContents();
const say = async (page, text) => {
  await page.fill('#text', text);
  await page.click('button');
};
const enter = async (url) => {
  const page = await open(url);
  await page.getByText('you are in').waitFor();
  return page;
};

onBothBackEnds('two people in one room see each other, and nobody else does', 'chat', [], async ({ url }) => {
  const ada = await enter(`${url}/#engines`);
  const bob = await enter(`${url}/#engines`);
  const eve = await enter(`${url}/#elsewhere`);
  await say(ada, 'does it run?');
  await eventually(async () => assert.deepEqual(await said(bob), ['does it run?']));
  await say(bob, 'on every core');
  const both = ['does it run?', 'on every core'];
  await eventually(async () => assert.deepEqual(await said(ada), both));
  await eventually(async () => assert.deepEqual(await said(bob), both));
  await say(eve, 'nobody here');
  await eventually(async () => assert.deepEqual(await said(eve), ['nobody here']));
  assert.deepEqual([...ada.complaints, ...bob.complaints, ...eve.complaints], []);
});

onBothBackEnds('what others say is text', 'chat', [], async ({ url }) => {
  const [mallory, victim] = [await enter(url), await enter(url)];
  const attack = '<img src=x onerror="globalThis.injected = 1">';
  await say(mallory, attack);
  await eventually(async () => assert.deepEqual(await said(victim), [attack]));
  assert.equal(await victim.evaluate(() => globalThis.injected), undefined);
});

onBothBackEnds('a page of another origin gets no WebSocket', 'chat', [], async ({ url }) => {
  const page = await open(await otherSite('<!doctype html><title>elsewhere</title>'));
  const asked = page.waitForEvent('websocket');
  await page.evaluate((address) => { new WebSocket(address); }, `${url.replace('http', 'ws')}/rooms/lobby`);
  assert.match(await (await asked).waitForEvent('socketerror'), /403/);
});
