// onnxruntime-web does not hand out an ONNX file's metadata, so they are read here: field 14 of the file, a
// protobuf message, holds pairs of text, key (1) and value (2).

export function metadata(bytes) {
  const entries = new Map();
  for (const [field, content] of fields(bytes)) {
    if (field !== 14) continue;
    const pair = new Map(fields(content));
    const text = (number) => new TextDecoder().decode(pair.get(number) ?? new Uint8Array());
    entries.set(text(1), text(2));
  }
  return entries;
}

// Number and content of each field; of numbers, whose values are not wanted, nothing.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      if (at >= bytes.length) throw new Error("the file is not complete");
      const byte = bytes[at++];
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    let length = 0;
    if (kind === 0) varint();
    else if (kind === 1) length = 8;
    else if (kind === 2) length = varint();
    else if (kind === 5) length = 4;
    else throw new Error("this is not an ONNX file");
    if (at + length > bytes.length) throw new Error("the file is not complete");
    yield [field, kind === 2 ? bytes.subarray(at, at + length) : new Uint8Array()];
    at += length;
  }
}
