// Classifies an image on the page as a visitor would, once by clicking and once by dropping, and prints
// what the page says as JSON:
//
//     node test.mjs PLAYWRIGHT CHROMIUM ONNXRUNTIME-WEB MODEL.onnx IMAGE SCREENSHOT.png
//
// PLAYWRIGHT is the folder of the npm package playwright-core, ONNXRUNTIME-WEB that of onnxruntime-web's files.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { basename, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const [playwright, executablePath, runtime, model, image, screenshot] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(join(playwright, "index.mjs")));

// In milliseconds; a busy machine takes its time to start a browser.
const PATIENCE = 120_000;
const TYPES = { html: "text/html", mjs: "text/javascript", wasm: "application/wasm" };

const server = createServer(async (request, response) => {
  const path = normalize(new URL(request.url, "http://localhost").pathname).replace(/^\/+/, "");
  let file = join(import.meta.dirname, path || "index.html");
  if (path === "model.onnx") file = model;
  if (path.startsWith("onnxruntime-web/")) file = join(runtime, basename(path));
  try {
    const content = await readFile(file);
    response.writeHead(200, { "content-type": TYPES[file.split(".").pop()] ?? "application/octet-stream" });
    response.end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: PATIENCE });
const problems = [];
try {
  const page = await browser.newPage({ viewport: { width: 640, height: 820 } });
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForSelector("body[data-ready]");

  // A real click on the page, answered with a file as the browser's dialogue would.
  const chooser = page.waitForEvent("filechooser");
  await page.click("#drop");
  await (await chooser).setFiles(image);
  const clicked = await answers(page);
  await page.screenshot({ path: screenshot });

  // And a drop of something that is no image, then of the image.
  await dropOn(page, "notes.txt", Buffer.from("no image"));
  await page.waitForFunction(() => document.getElementById("error").textContent !== "");
  const refused = await page.textContent("#error");
  await dropOn(page, basename(image), await readFile(image));
  const dropped = await answers(page);
  console.log(JSON.stringify({ clicked, dropped, refused, problems }));
} finally {
  await browser.close();
  server.close();
}

async function answers(page) {
  await page.waitForSelector("#answers li");
  return page.$$eval("#answers li", (lines) =>
    lines.map((line) => ({
      class: Number(line.dataset.class),
      probability: Number(line.dataset.probability),
      name: line.querySelector("span").textContent,
    })),
  );
}

async function dropOn(page, name, content) {
  const transfer = await page.evaluateHandle(
    ([name, base64]) => {
      const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name));
      return transfer;
    },
    [name, content.toString("base64")],
  );
  for (const type of ["dragenter", "dragover", "drop"]) {
    await page.dispatchEvent("#drop", type, { dataTransfer: transfer });
  }
}
