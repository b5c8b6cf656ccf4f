import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { eventually, onBothBackEnds, open } from './example.js';

const listed = (page) => page.locator('#list li').allTextContents();
const write = (url, text) => fetch(`${url}/messages`, { method: 'POST', body: new URLSearchParams({ text }) });

/** A way to a server that can be cut. */
async function cuttableWay(url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  const way = createServer((client) => {
    const server = connect(port, hostname);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => { client.destroy(); server.destroy(); sockets.delete(socket); });
    }
    client.pipe(server).pipe(client);
  });
  way.listen(0, '127.0.0.1');
  await once(way, 'listening');
  const cut = () => sockets.forEach((socket) => socket.destroy());
  way.unref();
  return { url: `http://127.0.0.1:${way.address().port}`, cut };
}

onBothBackEnds('an event reaches every page', 'events', [], async ({ url }) => {
  const [one, other] = [await open(url), await open(url)];
  await one.fill('input', 'hello');
  await one.click('button');
  for (const page of [one, other]) {
    await eventually(async () => assert.deepEqual(await listed(page), ['1: hello']));
  }
  assert.deepEqual([...one.complaints, ...other.complaints], []);
});

onBothBackEnds('a page that was cut off misses nothing and sees nothing twice', 'events', [], async ({ url }) => {
  const way = await cuttableWay(url);
  const page = await open(way.url);
  await write(url, 'before');
  await eventually(async () => assert.deepEqual(await listed(page), ['1: before']));
  const again = page.waitForRequest((request) => request.url().endsWith('/events'));
  way.cut();
  await page.getByText('connecting again').waitFor();
  await write(url, 'meanwhile');
  assert.equal((await (await again).allHeaders())['last-event-id'], '1');
  await write(url, 'after');
  await eventually(async () => assert.deepEqual(await listed(page), ['3: after', '2: meanwhile', '1: before']));
});
