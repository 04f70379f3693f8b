// OpenAI's own client for Node against the real service: what it sends, what it makes of the answers, what it does with
// errors. The runner (run) says where the programs are by its folder: BUILD/npm.
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { deflateSync } from "node:zlib";
import OpenAI, { toFile } from "openai";

const build = path.resolve(import.meta.dirname, "..");
const darkroom = path.join(build, "bin", "darkroom");
const models = path.resolve(build, "..", "..", "demo");
const version = JSON.parse(readFileSync(path.join(import.meta.dirname, "node_modules/openai/package.json"))).version;
const calls = new Map(); // "POST /v1/images/edits" → what was seen to work

const small = { size: "256x256", steps: 2, seed: 7 };

let data, service, url, client;

function addKey(name, ...terms) {
  const out = execFileSync(darkroom, ["keys", "add", name, "--data", data, "--json", ...terms], { stdio: ["ignore", "pipe", "ignore"] });
  return JSON.parse(out).key;
}

function clientWith(apiKey, options = {}) {
  return new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0, ...options });
}

// A PNG of one colour, with transparency.
function png(width, height, rgba) {
  const crcOf = (bytes) => {
    let crc = ~0;
    for (const byte of bytes) {
      crc ^= byte;
      for (let i = 0; i < 8; ++i) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc >>> 0;
  };
  const chunk = (type, body) => {
    const typed = Buffer.concat([Buffer.from(type), body]);
    const length = Buffer.alloc(4), crc = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    crc.writeUInt32BE(crcOf(typed));
    return Buffer.concat([length, typed, crc]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 6, 0, 0, 0], 8);
  const row = Buffer.concat([Buffer.from([0]), Buffer.concat(Array(width).fill(Buffer.from(rgba)))]);
  const pixels = deflateSync(Buffer.concat(Array(height).fill(row)));
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

function assertPng(bytes) {
  assert.equal(bytes.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  assert.equal(bytes.readUInt32BE(16), 256);
  assert.equal(bytes.readUInt32BE(20), 256);
}

const decoded = (image) => Buffer.from(image.b64_json, "base64");

function works(call, what) {
  if (!calls.has(call)) calls.set(call, []);
  calls.get(call).push(what);
}

before(async () => {
  data = mkdtempSync(path.join(tmpdir(), "darkroom-node-"));
  const key = addKey("node");
  service = spawn(darkroom, ["serve", "--listen", "127.0.0.1:0", "--data", data, "--models", models, "--outputs", path.join(data, "outputs")],
    { stdio: ["ignore", "ignore", "pipe"] });
  url = await new Promise((resolve, reject) => {
    let said = "";
    service.stderr.on("data", (chunk) => {
      said += chunk;
      const line = said.split("\n").find((one) => one.includes('"listening"'));
      if (line?.endsWith("}")) resolve(JSON.parse(line).url);
    });
    service.on("exit", (code) => reject(new Error(`darkroom serve ended with ${code}: ${said}`)));
  });
  client = clientWith(key);
  while ((await fetch(`${url}/readyz`)).status !== 200) await new Promise((again) => setTimeout(again, 100));
});

after(async () => {
  if (service?.exitCode === null) {
    const ended = new Promise((resolve) => service.once("exit", resolve));
    service.kill("SIGTERM");
    await ended;
  }
  if (data) rmSync(data, { recursive: true, force: true });
  const rows = [...calls].sort().map(([call, what]) => `| ${call} | ${what.join(", ")} |\n`);
  writeFileSync(path.join(build, "openai-node.md"), `openai-node ${version}:\n\n| Call | Done |\n|---|---|\n${rows.join("")}`);
});

test("models are listed and looked up", async () => {
  const all = [];
  for await (const model of client.models.list()) all.push(model.id);
  assert.deepEqual(all, ["model"]);
  assert.equal((await client.models.retrieve("model")).object, "model");
  works("GET /v1/models", "list");
  works("GET /v1/models/{id}", "retrieve");
});

test("words to pictures, in base64", async () => {
  const answer = await client.images.generate({ prompt: "a lighthouse", n: 2, response_format: "b64_json", ...small });
  assert.ok(Math.abs(answer.created - Date.now() / 1000) < 3600);
  assert.equal(answer.data.length, 2);
  answer.data.forEach((image) => assertPng(decoded(image)));
  assert.notEqual(answer.data[0].b64_json, answer.data[1].b64_json);
  const again = await client.images.generate({ model: "gpt-image-1", prompt: "a lighthouse", ...small });
  assert.equal(again.data[0].b64_json, answer.data[0].b64_json); // a seed means a picture
  works("POST /v1/images/generations", "b64_json");
});

test("words to a picture, as a link that needs no key", async () => {
  const answer = await client.images.generate({ model: "dall-e-3", prompt: "a lighthouse", response_format: "url", quality: "standard", style: "vivid", ...small });
  assert.ok(answer.data[0].url.startsWith(url));
  const picture = await fetch(answer.data[0].url);
  assert.equal(picture.status, 200);
  assertPng(Buffer.from(await picture.arrayBuffer()));
  works("POST /v1/images/generations", "url");
});

test("a stream with partial images", async () => {
  const stream = await client.images.generate({ prompt: "a lighthouse", stream: true, partial_images: 2, ...small, steps: 6 });
  const seen = [];
  for await (const event of stream) {
    seen.push(event.type);
    if (event.type === "image_generation.completed") assertPng(decoded(event));
    if (event.type === "image_generation.partial_image") assert.equal(event.partial_image_index, seen.length - 1);
  }
  assert.deepEqual(seen, ["image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"]);
  works("POST /v1/images/generations", "stream");
});

test("a picture is edited where its mask is transparent", async () => {
  const grey = png(256, 256, [128, 128, 128, 255]);
  const answer = await client.images.edit({
    image: await toFile(grey, "picture.png", { type: "image/png" }),
    mask: await toFile(png(256, 256, [0, 0, 0, 0]), "mask.png", { type: "image/png" }),
    prompt: "a lighthouse",
    ...small,
  });
  assertPng(decoded(answer.data[0]));
  const untouched = await client.images.edit({
    image: [await toFile(grey, "picture.png", { type: "image/png" })],
    prompt: "a lighthouse",
    input_fidelity: "high",
    ...small,
  });
  assert.notEqual(untouched.data[0].b64_json, answer.data[0].b64_json);
  works("POST /v1/images/edits", "mask, list of one");
  const stream = await client.images.edit({ image: await toFile(grey, "picture.png", { type: "image/png" }), prompt: "a lighthouse", stream: true, ...small });
  const seen = [];
  for await (const event of stream) seen.push(event.type);
  assert.deepEqual(seen, ["image_edit.completed"]);
  works("POST /v1/images/edits", "stream");
});

test("a variation of a picture", async () => {
  const answer = await client.images.createVariation({ image: await toFile(png(256, 256, [200, 80, 40, 255]), "picture.png", { type: "image/png" }), ...small });
  assertPng(decoded(answer.data[0]));
  works("POST /v1/images/variations", "b64_json");
});

test("errors become the client's own", async () => {
  await assert.rejects(client.images.generate({ prompt: "a lighthouse", size: "17x17" }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "size");
    assert.equal(error.type, "invalid_request_error");
    assert.match(error.message, /256 to 2048/);
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(client.images.generate({ prompt: "a lighthouse", background: "transparent" }), OpenAI.BadRequestError);
  await assert.rejects(client.models.retrieve("nothing"), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  await assert.rejects(clientWith("dk_wrong").models.list(), OpenAI.AuthenticationError);
  const reader = clientWith(addKey("reader", "--scope", "read"));
  await reader.models.list();
  await assert.rejects(reader.images.generate({ prompt: "a lighthouse", ...small }), OpenAI.PermissionDeniedError);
  const rare = clientWith(addKey("rare", "--per-minute", "1"));
  await rare.images.generate({ prompt: "a lighthouse", ...small });
  await assert.rejects(rare.images.generate({ prompt: "a lighthouse", ...small }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
    return true;
  });
  works("POST /v1/images/generations", "errors 400, 401, 403, 404, 429");
});

test("a request that was cut off is joined by its retry", async () => {
  const body = { prompt: "a lighthouse that was cut off", size: "256x256", steps: 20 };
  // The first try is cut by this time limit, as the client's own would; later ones have all the time that they need.
  let tries = 0;
  const impatient = clientWith(client.apiKey, {
    maxRetries: 3,
    fetch: async (target, options) => {
      const running = async () => (await (await fetch(`${url}/v1/jobs?status=running`, { headers: options.headers })).json()).jobs.length;
      const pause = () => new Promise((again) => setTimeout(again, 20));
      if (++tries > 1) {
        // The service notices in its own time that nobody waits; by then it has.
        while ((await running()) > 0) await pause();
        return fetch(target, options);
      }
      const cut = new AbortController();
      const answer = fetch(target, { ...options, signal: cut.signal });
      while ((await running()) === 0) await pause();
      cut.abort();
      return answer;
    },
  });
  const before = await count();
  assertPng(decoded((await impatient.images.generate(body)).data[0]));
  assert.ok(tries >= 2);
  assert.equal(await count(), before + 1);
  works("POST /v1/images/generations", "retry joins its job");

  async function count() {
    const page = await fetch(`${url}/v1/jobs?limit=200`, { headers: { authorization: `Bearer ${client.apiKey}` } });
    return (await page.json()).jobs.length;
  }
});
