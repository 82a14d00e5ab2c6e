//! Telling and undoing the compression of a stream by its first bytes, as Docker does.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

use crate::error::{Error, Result};

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// The most memory that an xz stream may ask for, in bytes: what its highest preset needs, and some.
const XZ_MEMORY: u64 = 96 << 20;
/// Read buffer for compressed input, in bytes.
const BUFFER: usize = 64 << 10;

/// A reader of the plain bytes of a stream in whatever compression.
pub fn plain<'a>(stream: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let (head, whole) = peek(stream)?;
    let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
    if head.starts_with(GZIP) {
        Ok(Box::new(MultiGzDecoder::new(buffered(whole))))
    } else if head.starts_with(ZSTD) || is_zstd_skippable(&head) {
        Ok(Box::new(crate::zstd::Reader::new(buffered(whole)).map_err(Error::Decompress)?))
    } else if head.starts_with(BZIP2) {
        // Its blocks are 900 kB at most, so its memory has a limit of its own.
        Ok(Box::new(MultiBzDecoder::new(buffered(whole))))
    } else if head.starts_with(XZ) {
        Ok(Box::new(xz_decoder(buffered(whole)).map_err(Error::Decompress)?))
    } else {
        Ok(Box::new(whole))
    }
}

/// The stream as a layer can be kept: in gzip, zstd or plain as it came, and plain where images have no name for its
/// compression.
pub(crate) fn as_layer<'a>(stream: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let (head, whole) = peek(stream)?;
    let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
    if head.starts_with(BZIP2) {
        Ok(Box::new(MultiBzDecoder::new(buffered(whole))))
    } else if head.starts_with(XZ) {
        Ok(Box::new(xz_decoder(buffered(whole)).map_err(Error::Decompress)?))
    } else {
        Ok(Box::new(whole))
    }
}

/// The first bytes of a stream, and the whole of it.
fn peek<R: Read>(mut stream: R) -> Result<(Vec<u8>, impl Read + use<R>)> {
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
    let head = head[..filled].to_vec();
    let whole = Cursor::new(head.clone()).chain(stream);
    Ok((head, whole))
}

fn xz_decoder<R: BufRead>(stream: R) -> io::Result<XzDecoder<R>> {
    // Several streams after one another are one, as `xz` writes them with threads or `cat` joins them.
    let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
    Ok(XzDecoder::new_stream(stream, decoder))
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
    fn xz_and_bzip2() {
        let text = b"some text ".repeat(1000);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let xz = xz.finish().unwrap();
        assert_eq!(read(&[xz.clone(), xz.clone()].concat()), text.repeat(2));
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&text).unwrap();
        let bzip2 = bzip2.finish().unwrap();
        assert_eq!(read(&[bzip2.clone(), bzip2.clone()].concat()), text.repeat(2));
        for cut in [&xz[..xz.len() - 5], &bzip2[..bzip2.len() - 5]] {
            plain(cut).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        }
    }

    #[test]
    fn layers_keep_the_compression_that_images_have_names_for() {
        let kept = |bytes: &[u8]| {
            let mut out = Vec::new();
            as_layer(bytes).unwrap().read_to_end(&mut out).unwrap();
            out
        };
        let zstd = zstd::encode_all(&b"text"[..], 1).unwrap();
        assert_eq!(kept(&zstd), zstd);
        assert_eq!(kept(b"text"), b"text");
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"text").unwrap();
        assert_eq!(kept(&xz.finish().unwrap()), b"text");
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(b"text").unwrap();
        assert_eq!(kept(&bzip2.finish().unwrap()), b"text");
    }

    #[test]
    fn memory_has_a_limit() {
        // Preset 9 is the highest that the program `xz` has; a dictionary of 1 GiB is what nobody needs.
        let compress = |dictionary: u32| {
            let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
            options.dict_size(dictionary);
            let mut filters = liblzma::stream::Filters::new();
            filters.lzma2(&options);
            let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(b"x").unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(read(&compress(64 << 20)), b"x");
        plain(&compress(1 << 30)[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        plain(&with_window(28, b"x")[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    }

    fn with_window(log: u32, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(log)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// There is one large window for all readers: the second one waits for the end of the first.
    #[test]
    fn large_windows_come_one_after_another() {
        let text = b"some text ".repeat(1_000_000);
        let stream = with_window(27, &text);
        let mut first = plain(&stream[..]).unwrap();
        first.read_exact(&mut [0; 10]).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| read(&stream));
            // One of the usual kind waits for nobody.
            assert_eq!(read(&zstd::encode_all(&text[..], 3).unwrap()), text);
            let mut rest = Vec::new();
            first.read_to_end(&mut rest).unwrap();
            assert!(!second.is_finished() && rest == text[10..]);
            drop(first);
            assert!(second.join().unwrap() == text);
        });
    }

    #[test]
    fn zstd_that_is_cut_off() {
        let text = b"some text ".repeat(100_000);
        let stream = zstd::encode_all(&text[..], 3).unwrap();
        let error = plain(&stream[..stream.len() - 1]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::UnexpectedEof, "incomplete frame"));
        let damaged = [&stream[..stream.len() / 2], b"????", &stream[stream.len() / 2 + 4..]].concat();
        plain(&damaged[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    }

    /// What `podman push --compression-format zstd:chunked` writes: a frame for each file, and frames with a table of
    /// contents that no decoder looks into.
    #[test]
    fn zstd_in_chunks() {
        let frames = [&b"first "[..], b"second ", b"third"].map(|part| zstd::encode_all(part, 3).unwrap());
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"toc!"].concat();
        let blob = [&skippable[..], &frames[0], &frames[1], &skippable, &frames[2], &skippable].concat();
        assert_eq!(read(&blob), b"first second third");
    }
}
