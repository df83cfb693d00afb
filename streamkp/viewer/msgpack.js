// Reads msgpack: the types that streamkp sends. Arrays of numbers, which travel as float32, become nested lists.

const text = new TextDecoder();

/** The value in an ArrayBuffer; throws where it is cut off or of a type that streamkp does not use. */
export function decode(buffer) {
  const view = new DataView(buffer);
  let at = 0;

  const take = (bytes) => {
    at += bytes;
    return at - bytes;
  };
  const string = (length) => text.decode(new Uint8Array(buffer, take(length), length));
  const binary = (length) => new Uint8Array(buffer, take(length), length);
  const list = (length) => Array.from({ length }, read);

  function map(length) {
    const found = {};
    for (let i = 0; i < length; i += 1) {
      const key = read();
      const value = read();
      // "__proto__" would change the object itself.
      Object.defineProperty(found, key, { value, enumerable: true, configurable: true, writable: true });
    }
    return length === 2 && found.data instanceof Uint8Array && Array.isArray(found.shape) ? nested(found) : found;
  }

  function read() {
    const kind = view.getUint8(take(1));
    if (kind < 0x80) return kind;
    if (kind < 0x90) return map(kind & 15);
    if (kind < 0xa0) return list(kind & 15);
    if (kind < 0xc0) return string(kind & 31);
    if (kind >= 0xe0) return kind - 256;
    switch (kind) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return binary(view.getUint8(take(1)));
      case 0xc5: return binary(view.getUint16(take(2)));
      case 0xc6: return binary(view.getUint32(take(4)));
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: return view.getUint8(take(1));
      case 0xcd: return view.getUint16(take(2));
      case 0xce: return view.getUint32(take(4));
      case 0xcf: return Number(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return Number(view.getBigInt64(take(8)));
      case 0xd9: return string(view.getUint8(take(1)));
      case 0xda: return string(view.getUint16(take(2)));
      case 0xdb: return string(view.getUint32(take(4)));
      case 0xdc: return list(view.getUint16(take(2)));
      case 0xdd: return list(view.getUint32(take(4)));
      case 0xde: return map(view.getUint16(take(2)));
      case 0xdf: return map(view.getUint32(take(4)));
      default: throw new Error(`msgpack type ${kind}`);
    }
  }

  return read();
}

function nested({ shape, data }) {
  const numbers = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  const build = (depth) =>
    Array.from({ length: shape[depth] }, () => {
      if (depth < shape.length - 1) return build(depth + 1);
      at += 4;
      return numbers.getFloat32(at - 4, true);
    });
  return build(0);
}
