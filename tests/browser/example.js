// Example servers, started as a person would start them, and the browser that looks at them.
//
// The examples are built before: cargo build -p gimmal-examples --examples
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const EXAMPLES = fileURLToPath(new URL('../../target/debug/examples/', import.meta.url));

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
});
/** Those that run, also after a test that has timed out. */
const children = new Set();
after(async () => {
  children.forEach((child) => child.kill('SIGKILL'));
  await browser?.close();
});

/** A test that runs against an example on io_uring, and against the same on epoll. `options` may be a function. */
export function onBothBackEnds(title, example, options, run) {
  for (const backend of ['uring', 'epoll']) {
    test(`${title} (${backend})`, { timeout: 60_000 }, async () => {
      const own = typeof options === 'function' ? await options() : options;
      const address = own.includes('--addr') ? [] : ['--addr', '127.0.0.1:0'];
      const server = await start(example, [...address, '--cores', '2', '--backend', backend, ...own]);
      try {
        await run(server);
      } finally {
        await Promise.all(browser.contexts().map((profile) => profile.close()));
        await server.stop();
      }
    });
  }
}

/** Starts an example, and waits until it listens. */
export async function start(example, options) {
  const child = spawn(EXAMPLES + example, options, { stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  child.on('exit', () => children.delete(child));
  const server = {
    /** What it says on standard output: where it listens, and what to try. */
    said: '',
    /** Its log. */
    log: '',
    async stop() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
      assert.equal(child.exitCode, 0, `${example} did not stop in order: ${server.log}`);
    },
  };
  child.stderr.setEncoding('utf8').on('data', (text) => { server.log += text; });
  child.stdout.setEncoding('utf8').on('data', (text) => { server.said += text; });
  server.url = await eventually(() => {
    assert.equal(child.exitCode, null, `${example} has ended: ${server.said}${server.log}`);
    return /^listening on (\S+)$/m.exec(server.said)[1];
  });
  return server;
}

/** Runs an example that ends by itself. */
export function run(example, options) {
  return spawnSync(EXAMPLES + example, options, { encoding: 'utf8', timeout: 10_000 });
}

/** A fresh profile, as another person at another computer. It takes the certificates for development. */
export async function profile(options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(10_000);
  return context;
}

/** A page in a fresh profile. What it complains of is kept in `complaints`. */
export async function open(url, options) {
  const page = await (await profile(options)).newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('console', (message) => {
    const isComplaint = ['error', 'warning'].includes(message.type());
    // What is no page has no icon.
    if (isComplaint && !message.location().url.endsWith('/favicon.ico')) page.complaints.push(message.text());
  });
  await page.goto(url);
  return page;
}

/** Waits until `check` does not throw any more, and throws what it threw last otherwise. */
export async function eventually(check) {
  for (const until = Date.now() + 10_000; ;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** The address of another site that has this page. */
export async function otherSite(html) {
  return `http://localhost:${await serve(createServer(), html)}/`;
}

/** The address of another server of the same site, over HTTPS: on this host, but on another port. */
export async function neighbour(html) {
  const options = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const made = spawnSync('openssl', [...options, '-subj', '/CN=neighbour', '-keyout', '-'], { encoding: 'utf8' });
  return `https://127.0.0.1:${await serve(createSecureServer({ key: made.stdout, cert: made.stdout }), html)}/`;
}

async function serve(server, html) {
  server.on('request', (request, response) => response.setHeader('content-type', 'text/html').end(html));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.unref().address().port;
}
