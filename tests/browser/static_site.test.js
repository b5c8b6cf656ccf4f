import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { gzipSync } from 'node:zlib';
import { onBothBackEnds, open } from './example.js';

const folder = await mkdtemp(join(tmpdir(), 'gimmal-site-'));
after(() => rm(folder, { recursive: true }));
await mkdir(join(folder, 'files'));
const page = '<!doctype html><title>A site</title><link rel=stylesheet href=site.css><script src=site.js></script><p id=p>text';
await writeFile(join(folder, 'index.html'), page);
await writeFile(join(folder, 'site.css'), 'p { color: rgb(1, 2, 3) }');
await writeFile(join(folder, 'site.js'), 'not what is sent');
await writeFile(join(folder, 'site.js.gz'), gzipSync('document.documentElement.dataset.ran = "from gzip"'));
await writeFile(join(folder, 'files', 'a & <b>.txt'), 'a file of a listing');
const options = ['--folder', folder];

onBothBackEnds('a browser shows a site of files', 'static_site', options, async ({ url }) => {
  const page = await open(url);
  assert.equal(await page.title(), 'A site');
  assert.equal(await page.locator('#p').evaluate((p) => getComputedStyle(p).color), 'rgb(1, 2, 3)');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.ran), 'from gzip');
  // What has not changed is not sent again.
  const status = await page.evaluate(async () => {
    const first = await fetch('/site.css', { cache: 'no-store' });
    const headers = { 'if-none-match': first.headers.get('etag') };
    return (await fetch('/site.css', { cache: 'no-store', headers })).status;
  });
  assert.equal(status, 304);
});

onBothBackEnds('a listing leads to its files', 'static_site', options, async ({ url }) => {
  const page = await open(`${url}/files/`);
  await page.getByText('a & <b>.txt').click();
  await page.waitForURL('**/a%20*');
  assert.equal(await page.textContent('body'), 'a file of a listing');
});
