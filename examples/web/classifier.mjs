// An exported classifier in onnxruntime-web: preprocessing and names come from the file itself.

import { metadata } from "./metadata.mjs";
import { resizeAndCrop } from "./resize.mjs";

export class Classifier {
  // `ort` is the module onnxruntime-web, `bytes` the file.
  static async open(ort, bytes) {
    const said = metadata(bytes);
    if (!said.has("selfcls.format")) throw new Error("the file was not written by selfcls");
    if (Number(said.get("selfcls.format")) > 2) throw new Error("the file is newer than this page");
    return new Classifier(ort, await ort.InferenceSession.create(bytes), said);
  }

  constructor(ort, session, said) {
    this.ort = ort;
    this.session = session;
    this.input = said.get("selfcls.input") ?? "float";
    this.how = JSON.parse(said.get("selfcls.preprocess"));
    const head = Number(said.get("selfcls.default_head"));
    const { classes, names } = JSON.parse(said.get("selfcls.heads")).find((one) => one.index === head);
    this.classes = classes;
    this.names = names ?? [];
    this.backbone = said.get("selfcls.backbone");
  }

  // The classes of an image `{ width, height, data }`, `data` RGB bytes, the most probable first.
  async classify(image) {
    const outputs = await this.session.run({ image: this.prepare(image) }, ["probabilities"]);
    const answers = Array.from(outputs.probabilities.data, (probability, index) => ({
      index,
      name: this.names[index],
      probability,
    }));
    return answers.sort((a, b) => b.probability - a.probability);
  }

  prepare(image) {
    const { Tensor } = this.ort;
    if (this.input === "any") {
      return new Tensor("uint8", image.data, [1, image.height, image.width, 3]);
    }
    const { resize, crop, interpolation, mean, std } = this.how;
    const pixels = resizeAndCrop(image, resize, crop, interpolation);
    if (this.input === "uint8") return new Tensor("uint8", pixels, [1, crop, crop, 3]);
    const values = new Float32Array(3 * crop * crop);
    for (let i = 0; i < values.length; i++) {
      const [channel, pixel] = [Math.floor(i / (crop * crop)), i % (crop * crop)];
      values[i] = (pixels[3 * pixel + channel] / 255 - mean[channel]) / std[channel];
    }
    return new Tensor("float32", values, [1, 3, crop, crop]);
  }
}
