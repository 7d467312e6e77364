// Reads an 8-bit grey PNG exactly. A canvas would manage its colours, and some browsers add noise to what is read back.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

function chunksOf(bytes) {
  if (SIGNATURE.some((value, i) => bytes[i] !== value)) throw new RangeError("the confidence plane is not a PNG");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chunks = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (at + 12 + length > bytes.length) throw new RangeError("the confidence plane is cut off");
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    chunks.push({ name, data: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  return chunks;
}

function paeth(left, above, corner) {
  const estimate = left + above - corner;
  const toLeft = Math.abs(estimate - left);
  const toAbove = Math.abs(estimate - above);
  const toCorner = Math.abs(estimate - corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

const PREDICTORS = [
  () => 0,
  (left) => left,
  (left, above) => above,
  (left, above) => (left + above) >> 1,
  paeth,
];

function unfilter(lines, width, height) {
  if (lines.length !== height * (width + 1)) throw new RangeError("the confidence plane is cut off");
  const plane = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = y * (width + 1);
    const to = y * width;
    const predict = PREDICTORS[lines[from]];
    if (!predict) throw new RangeError("the confidence plane is damaged");
    for (let x = 0; x < width; x++) {
      const left = x ? plane[to + x - 1] : 0;
      const above = y ? plane[to + x - width] : 0;
      const corner = x && y ? plane[to + x - width - 1] : 0;
      plane[to + x] = lines[from + 1 + x] + predict(left, above, corner);
    }
  }
  return plane;
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The values (Uint8Array, row by row) of a PNG, which must be 8-bit grey and of this size. */
export async function readGreyPng(bytes, width, height) {
  const chunks = chunksOf(bytes);
  const header = chunks.find((chunk) => chunk.name === "IHDR")?.data;
  if (!header || header.length !== 13) throw new RangeError("the confidence plane has no header");
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const [depth, colour, , , interlace] = header.subarray(8);
  if (view.getUint32(0) !== width || view.getUint32(4) !== height || depth !== 8 || colour || interlace) {
    throw new RangeError("the confidence plane is not an 8-bit grey image of the mask's size");
  }
  const parts = chunks.filter((chunk) => chunk.name === "IDAT").map((chunk) => chunk.data);
  return unfilter(await inflate(parts), width, height);
}
