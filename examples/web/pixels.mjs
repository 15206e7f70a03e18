// The pixels of an image as its file has them.

// Red, green and blue of each pixel of `bitmap`, which was made with `premultiplyAlpha: "none"`: what transparency there is
// is dropped, and the colour under it counts, as in training.
export async function pixels(bitmap) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  let rgba = context.getImageData(0, 0, width, height).data;
  // A canvas keeps colours multiplied by their opacity, and of what is transparent none.
  if (isTransparent(rgba)) rgba = await underTransparency(bitmap);
  const data = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return { width, height, data };
}

function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return true;
  return false;
}

// Through a texture of WebGL, which keeps colours and opacity apart; in tiles, as its size is limited.
async function underTransparency(bitmap) {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl) throw new Error("it is transparent, and without WebGL 2 a browser does not give the colours under that");
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  const rgba = new Uint8Array(4 * bitmap.width * bitmap.height);
  gl.pixelStorei(gl.PACK_ROW_LENGTH, bitmap.width);
  for (let top = 0; top < bitmap.height; top += most) {
    for (let left = 0; left < bitmap.width; left += most) {
      const [wide, high] = [Math.min(most, bitmap.width - left), Math.min(most, bitmap.height - top)];
      const tile = await createImageBitmap(bitmap, left, top, wide, high, { premultiplyAlpha: "none" });
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, tile);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
      gl.readPixels(0, 0, wide, high, gl.RGBA, gl.UNSIGNED_BYTE, rgba, 4 * (top * bitmap.width + left));
    }
  }
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  if (failed) throw new Error("it is transparent, and its colours cannot be read");
  return rgba;
}
