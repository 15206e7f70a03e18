// The page: takes an image, shows what the model says of it.

import * as ort from "onnxruntime-web";
import { Classifier } from "./classifier.mjs";
import { pixels } from "./pixels.mjs";

ort.env.wasm.wasmPaths = new URL("./onnxruntime-web/", import.meta.url).href;
// More threads need headers that make a page cross-origin isolated.
ort.env.wasm.numThreads = 1;

const element = (id) => document.getElementById(id);
const drop = element("drop");

const opened = open();

async function open() {
  try {
    const answer = await fetch("model.onnx");
    if (!answer.ok) throw new Error(`model.onnx: ${answer.status} ${answer.statusText}`);
    const classifier = await Classifier.open(ort, new Uint8Array(await answer.arrayBuffer()));
    element("state").textContent = `${classifier.backbone}; ${classifier.classes} classes`;
    document.body.dataset.ready = "true";
    return classifier;
  } catch (error) {
    element("state").textContent = "The model cannot be used.";
    element("error").textContent = error.message;
    throw error;
  }
}

async function show(file) {
  element("error").textContent = "";
  element("answers").replaceChildren();
  try {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const picture = new Image();
    picture.src = URL.createObjectURL(file);
    picture.alt = file.name;
    drop.querySelector("span, img").replaceWith(picture);
    const started = performance.now();
    const answers = await (await opened).classify(await pixels(bitmap));
    const time = performance.now() - started;
    element("state").textContent = `${file.name}: ${time.toFixed(0)} ms`;
    element("answers").replaceChildren(...answers.slice(0, 5).map(line));
  } catch (error) {
    element("error").textContent = `${file.name} cannot be classified: ${error.message}`;
  }
}

function line({ index, name, probability }) {
  const item = document.createElement("li");
  item.dataset.class = index;
  item.dataset.probability = probability;
  const [label, share] = [document.createElement("span"), document.createElement("span")];
  label.textContent = name ?? `class ${index}`;
  share.textContent = `${(100 * probability).toFixed(1)} %`;
  const meter = document.createElement("meter");
  meter.value = probability;
  item.append(label, meter, share);
  return item;
}

element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) show(file);
});
drop.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") element("file").click();
});
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, () => drop.classList.remove("over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) show(file);
});
