//! Telling and undoing the compression of a stream by its first bytes, as Docker does.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// The most memory that a zstd stream may ask for, as a power of two: 128 MiB, zstd's own default.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Read buffer for compressed input, in bytes.
const BUFFER: usize = 64 << 10;

/// A reader of the plain bytes of a stream in whatever compression.
pub fn plain<'a>(mut stream: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut head = [0; 6];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    let whole = Cursor::new(head[..filled].to_vec()).chain(stream);
    let head = &head[..filled];
    let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
    if head.starts_with(GZIP) {
        Ok(Box::new(MultiGzDecoder::new(buffered(whole))))
    } else if head.starts_with(ZSTD) || is_zstd_skippable(head) {
        Ok(Box::new(zstd_decoder(buffered(whole)).map_err(Error::Decompress)?))
    } else if head.starts_with(BZIP2) {
        Err(Error::Compression("bzip2"))
    } else if head.starts_with(XZ) {
        Err(Error::Compression("xz"))
    } else {
        Ok(Box::new(whole))
    }
}

fn zstd_decoder<R: BufRead>(stream: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(stream)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// zstd streams may start with a frame of other data: 0x184D2A50 to 0x184D2A5F, little endian.
fn is_zstd_skippable(head: &[u8]) -> bool {
    head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        plain(bytes).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn tells_by_the_first_bytes() {
        let text = b"some text ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(read(&gzip), text);
        // Several members after one another are one stream.
        assert_eq!(read(&[gzip.clone(), gzip].concat()), text.repeat(2));
        assert_eq!(read(&zstd::encode_all(&text[..], 1).unwrap()), text);
        assert_eq!(read(&text), text);
        assert_eq!(read(b""), b"");
        assert_eq!(read(b"ab"), b"ab");
    }

    #[test]
    fn refuses_by_name() {
        assert!(matches!(plain(&b"BZh91AY"[..]).err(), Some(Error::Compression("bzip2"))));
        assert!(matches!(plain(XZ).err(), Some(Error::Compression("xz"))));
    }
}
