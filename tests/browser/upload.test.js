import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { eventually, onBothBackEnds, open } from './example.js';

const folder = await mkdtemp(join(tmpdir(), 'gimmal-upload-'));
after(() => rm(folder, { recursive: true }));
const SIZE = 4 << 20;
const options = ['--folder', folder, '--file-bytes-max', String(SIZE)];

onBothBackEnds('a form sends files, and a bar shows how far it is', 'upload', options, async ({ url }) => {
  const before = await readdir(folder);
  const page = await open(url);
  const bytes = Buffer.alloc(SIZE, 'gimmal');
  await page.setInputFiles('input', [
    { name: 'large.bin', mimeType: 'application/octet-stream', buffer: bytes },
    { name: '../../näme <b>.txt', mimeType: 'text/plain', buffer: Buffer.from('small') },
  ]);
  await page.evaluate(() => {
    globalThis.shown = [];
    const bar = document.getElementById('progress');
    new MutationObserver(() => globalThis.shown.push(bar.value)).observe(bar, { attributes: true });
  });
  await page.click('button');
  const lines = page.locator('#list li');
  await eventually(async () => assert.equal(await lines.count(), 2));
  const [large, small] = await lines.allTextContents();
  assert.equal(large, `large.bin: ${SIZE} bytes`);
  assert.match(small, /näme <b>\.txt: 5 bytes$/);
  const shown = await page.evaluate(() => globalThis.shown);
  assert.equal(shown.at(-1), 1);
  assert.deepEqual(shown, [...shown].sort((a, b) => a - b));
  assert.equal(await page.textContent('#percent'), '100 %');
  const kept = (await readdir(folder)).filter((name) => !before.includes(name));
  const contents = await Promise.all(kept.map((name) => readFile(join(folder, name))));
  assert.equal(contents.length, 2);
  assert.ok(contents.some((content) => content.equals(bytes)));
  assert.ok(contents.some((content) => content.toString() === 'small'));
  assert.deepEqual(page.complaints, []);
});

onBothBackEnds('a file that is too large is refused, and nothing of it is kept', 'upload', options, async ({ url }) => {
  const before = await readdir(folder);
  const page = await open(url);
  await page.setInputFiles('input', { name: 'huge', mimeType: 'text/plain', buffer: Buffer.alloc(SIZE + 1) });
  await page.click('button');
  await eventually(async () => assert.match(await page.textContent('#list'), /^413 /));
  assert.deepEqual(await readdir(folder), before);
});
