// Antialiased resizing as Pillow does it, to the bit: two passes, each rounded to bytes, with weights of 22 bits
// after the point. A canvas would resize in another way, and the network has not learnt from its images.

const ONE = 2 ** 22;

const FILTERS = {
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    at: (x) => {
      const [a, t] = [-0.5, Math.abs(x)];
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
      return 0;
    },
  },
};

// The middle `crop` x `crop` pixels of the image with its short side resized to `short`.
export function resizeAndCrop({ width, height, data }, short, crop, interpolation) {
  const scale = short / Math.min(width, height);
  const [wide, high] = [roundHalfToEven(width * scale), roundHalfToEven(height * scale)];
  const filter = FILTERS[interpolation];
  const columns = weights(width, wide, Math.floor((wide - crop) / 2), crop, filter);
  const rows = weights(height, high, Math.floor((high - crop) / 2), crop, filter);
  // Pillow begins with the height where that loses much more.
  const [lostHigh, lostWide] = [height - high, width - wide];
  if (lostHigh > 0 && lostHigh > 2 * lostWide) {
    const narrow = down(data, width, rows);
    return along(narrow, width, crop, columns);
  }
  const narrow = along(data, width, height, columns);
  return down(narrow, crop, rows);
}

// For each of `count` pixels of the result from `first` on: where its sources begin, and their weights.
function weights(from, to, first, count, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: count }, (_, k) => {
    const centre = (first + k + 0.5) * scale;
    const begin = Math.max(0, Math.floor(centre - filter.reach * stretch + 0.5));
    const end = Math.min(from, Math.floor(centre + filter.reach * stretch + 0.5));
    const values = [];
    for (let x = begin; x < end; x++) values.push(filter.at((x - centre + 0.5) * (1 / stretch)));
    const sum = values.reduce((a, b) => a + b, 0);
    // Away from zero where halves are rounded.
    const fixed = (value) => Math.trunc((value / sum) * ONE + (value < 0 ? -0.5 : 0.5));
    return { begin, values: values.map(fixed) };
  });
}

// Resizes the rows.
function along(data, width, height, columns) {
  const result = new Uint8Array(3 * columns.length * height);
  for (let y = 0, to = 0; y < height; y++) {
    for (const { begin, values } of columns) {
      const from = 3 * (y * width + begin);
      for (let c = 0; c < 3; c++) result[to++] = weigh(data, from + c, 3, values);
    }
  }
  return result;
}

// Resizes the columns.
function down(data, width, rows) {
  const result = new Uint8Array(3 * width * rows.length);
  let to = 0;
  for (const { begin, values } of rows) {
    for (let x = 0; x < 3 * width; x++) result[to++] = weigh(data, 3 * begin * width + x, 3 * width, values);
  }
  return result;
}

function weigh(data, from, step, values) {
  let sum = ONE / 2;
  for (let k = 0; k < values.length; k++) sum += values[k] * data[from + k * step];
  return Math.min(255, Math.max(0, Math.floor(sum / ONE)));
}

function roundHalfToEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}
