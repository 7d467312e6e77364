// Compressed COCO run-length encoding: what `pycocotools.mask.encode` writes, read exactly.

// Lengths of alternating runs, zeros first, down the columns. Each is base 32 in characters from "0" on, lowest digit
// first, bit 5 saying that more follow; from the third on it is the difference to the run two before.
function runLengths(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = counts.charCodeAt(at++) - 48;
      // 30 bits hold every image that a service takes; in more, JavaScript's shifts would wrap around.
      if (!(digit >= 0 && digit < 64) || shift > 25) throw new RangeError("the run-length encoding is damaged");
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) throw new RangeError("the run-length encoding is damaged");
    runs.push(value);
  }
  return runs;
}

function fill(columns, counts, id) {
  let start = 0;
  let inside = false;
  for (const length of runLengths(counts)) {
    const end = start + length;
    if (end > columns.length) throw new RangeError("the run-length encoding is longer than its image");
    if (inside) columns.fill(id, start, end);
    start = end;
    inside = !inside;
  }
  if (start !== columns.length) throw new RangeError("the run-length encoding is shorter than its image");
}

// In blocks, since a walk down the columns of a large image misses the cache at every pixel.
function transpose(columns, width, height) {
  const block = 64;
  const rows = new Uint8Array(columns.length);
  for (let top = 0; top < height; top += block) {
    const bottom = Math.min(top + block, height);
    for (let left = 0; left < width; left += block) {
      const right = Math.min(left + block, width);
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) rows[y * width + x] = columns[x * height + y];
      }
    }
  }
  return rows;
}

/** Class ids row by row, `nothing` where no class is. `classes` have an `id` and an `rle` {size: [height, width], counts}. */
export function classIds(classes, width, height, nothing) {
  const columns = new Uint8Array(width * height).fill(nothing);
  for (const { id, rle } of classes) {
    if (rle.size[0] !== height || rle.size[1] !== width) {
      throw new RangeError("a class's run-length encoding is of another size than the image");
    }
    fill(columns, rle.counts, id);
  }
  return transpose(columns, width, height);
}
