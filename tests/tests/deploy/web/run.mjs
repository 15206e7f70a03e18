// Runs exported files in the engine of browsers. Arguments: the folder of onnxruntime-web's files, and one with
// NAME.onnx and NAME.json (see cases.rs). Prints one line per file.

import { readFileSync, readdirSync, existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [engine, folder] = process.argv.slice(2).map((path) => resolve(path));
const ort = await import(pathToFileURL(join(engine, "ort.wasm.min.mjs")));
ort.env.wasm.wasmPaths = pathToFileURL(engine).href + "/";
ort.env.wasm.numThreads = 1;

let failed = 0;
for (const file of readdirSync(folder).filter((name) => name.endsWith(".onnx")).sort()) {
  const name = file.slice(0, -".onnx".length);
  const expected = JSON.parse(readFileSync(join(folder, name + ".json"), "utf8"));
  try {
    const options = { executionProviders: ["wasm"] };
    const data = file + ".data";
    if (existsSync(join(folder, data))) {
      options.externalData = [{ path: data, data: readFileSync(join(folder, data)) }];
    }
    const session = await ort.InferenceSession.create(readFileSync(join(folder, file)), options);
    const { type, shape, values } = expected.input;
    const typed = type === "uint8" ? Uint8Array.from(values) : Float32Array.from(values);
    const outputs = await session.run({ image: new ort.Tensor(type, typed, shape) });
    const [there, wanted] = [session.outputNames, Object.keys(expected.outputs)];
    if (there.toSorted().join() !== wanted.toSorted().join()) throw new Error(`has the outputs ${there}, not ${wanted}`);
    let worst = 0;
    for (const [output, values] of Object.entries(expected.outputs)) {
      const given = outputs[output].data;
      if (given.length !== values.length || !given.length) throw new Error(`${output} has ${given.length} values`);
      if (!values.every(Number.isFinite)) throw new Error(`${output} is expected to have values that are not finite`);
      const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
      values.forEach((value, i) => {
        const difference = Math.abs(given[i] - value) / scale;
        worst = difference > worst || Number.isNaN(difference) ? difference : worst;
      });
    }
    // Resizing may be a grey level off, which no tolerance of outputs is made for.
    const allowed = expected.exact ? expected.tolerance : 0.05;
    if (!(worst <= allowed)) throw new Error(`differs by ${worst}, more than ${allowed}`);
    console.log(name, worst.toExponential(1));
    await session.release();
  } catch (error) {
    failed += 1;
    console.error(`${name}: ${error.message ?? error}`);
  }
}
process.exit(failed ? 1 : 0);
