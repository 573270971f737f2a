//! The QR codes in a picture, PNG or JPEG.
//!
//! The size of a picture is checked before it is decoded. Colours become shades of grey, and what
//! is transparent becomes white. Reading has a time limit, because somebody can draw a small picture
//! that keeps the search for codes busy for hours.

use png::{ColorType, Decoder, Limits, Transformations};
use rqrr::PreparedImage;
use std::io::Cursor;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use zeroize::Zeroizing;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The longest side of a picture, in pixels.
const SIDE_PIXELS_MAX: usize = 16_384;
/// The largest picture, in pixels: more than telephones make by default.
const PICTURE_PIXELS_MAX: usize = 50_000_000;
/// What a decoder may take for a picture beside its pixels, in bytes.
const DECODER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest time to read a picture.
const READ_TIME_MAX: Duration = Duration::from_secs(20);

/// What helps if a code cannot be found or read.
const ADVICE: &str = "cut the picture to the code, or take a sharper one";

/// The text of a QR code, or why it cannot be read.
pub(super) type Code = Result<Zeroizing<String>, String>;

/// The corners of a code, in their order around it.
type Corners = [(i64, i64); 4];

/// A picture in shades of grey, one byte for each pixel, row by row.
struct Grey {
    width: usize,
    height: usize,
    pixels: Zeroizing<Vec<u8>>,
}

/// Returns the QR codes in a picture.
///
/// # Errors
///
/// Fails if the picture is too large or damaged, or takes too long to read, or if no QR code is in
/// it.
pub(super) fn read_codes(file: &[u8]) -> Result<Vec<Code>, String> {
    read_codes_within(file, READ_TIME_MAX)
}

/// Reads the codes on a thread, because nothing else can end the search for them. One that takes
/// too long is left behind, and ends with the process.
fn read_codes_within(file: &[u8], time_max: Duration) -> Result<Vec<Code>, String> {
    let file = Zeroizing::new(file.to_vec());
    let (sender, receiver) = mpsc::channel();
    let reader = thread::Builder::new().spawn(move || {
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(find_codes(&file));
    });
    reader.map_err(|_| "no thread can be started that reads the picture".to_owned())?;

    match receiver.recv_timeout(time_max) {
        Ok(codes) => codes,
        Err(RecvTimeoutError::Timeout) => {
            Err("the picture takes too long to read: cut it to the code".to_owned())
        }
        Err(RecvTimeoutError::Disconnected) => Err(damaged(())),
    }
}

fn find_codes(file: &[u8]) -> Result<Vec<Code>, String> {
    let mut picture = if file.starts_with(b"\x89PNG") {
        decode_png(file)?
    } else {
        decode_jpeg(file)?
    };

    // Of codes in rows, the search takes corners of several for one that cannot be read. Without
    // those that were read, it finds the others.
    let mut codes: Vec<Code> = Vec::new();
    loop {
        let (found, unreadable) = search(&picture);
        let is_last = found.is_empty() || unreadable == 0;
        for (text, corners) in found {
            picture.erase(&corners);
            codes.push(Ok(text));
        }

        if is_last {
            let reason = format!("the QR code cannot be read: {ADVICE}");
            codes.extend((0..unreadable).map(|_| Err(reason.clone())));
            break;
        }
    }

    if codes.is_empty() {
        return Err(format!("no QR code was found in the picture: {ADVICE}"));
    }
    Ok(codes)
}

/// Returns the texts and the corners of the codes that can be read, and how many cannot.
fn search(picture: &Grey) -> (Vec<(Zeroizing<String>, Corners)>, usize) {
    let pixel = |x, y| {
        let at = y * picture.width + x;
        picture.pixels.get(at).copied().unwrap_or(u8::MAX)
    };
    let mut prepared = PreparedImage::prepare_from_greyscale(picture.width, picture.height, pixel);

    let grids = prepared.detect_grids();
    let found: Vec<_> = grids
        .iter()
        .filter_map(|grid| {
            let (_, text) = grid.decode().ok()?;
            let corners = grid.bounds.map(|point| (point.x.into(), point.y.into()));
            Some((Zeroizing::new(text), corners))
        })
        .collect();

    let unreadable = grids.len() - found.len();
    (found, unreadable)
}

impl Grey {
    /// Makes all between these corners white.
    fn erase(&mut self, corners: &Corners) {
        let left = corners.iter().map(|corner| corner.0).min().unwrap_or(0);
        let right = corners.iter().map(|corner| corner.0).max().unwrap_or(0);
        let columns = left.max(0)..(right + 1).min(self.width as i64);

        for (y, row) in self.pixels.chunks_exact_mut(self.width.max(1)).enumerate() {
            for x in columns.clone() {
                if is_within(corners, x, y as i64) {
                    row[x as usize] = u8::MAX;
                }
            }
        }
    }
}

/// Returns whether a point lies on the same side of all four lines between the corners.
fn is_within(corners: &Corners, x: i64, y: i64) -> bool {
    let next = corners.iter().cycle().skip(1);
    let mut sides = corners
        .iter()
        .zip(next)
        .map(|(from, to)| (to.0 - from.0) * (y - from.1) - (to.1 - from.1) * (x - from.0));

    sides.clone().all(|side| side >= 0) || sides.all(|side| side <= 0)
}

fn damaged<E>(_: E) -> String {
    "the picture is damaged, or of a kind that is not supported".to_owned()
}

fn check_size(width: usize, height: usize) -> Result<(), String> {
    let is_within = width <= SIDE_PIXELS_MAX
        && height <= SIDE_PIXELS_MAX
        && width * height <= PICTURE_PIXELS_MAX;

    is_within.then_some(()).ok_or_else(|| {
        format!(
            "the picture has more than {PICTURE_PIXELS_MAX} pixels, or more than \
             {SIDE_PIXELS_MAX} on one side: make it smaller"
        )
    })
}

fn decode_png(file: &[u8]) -> Result<Grey, String> {
    let limits = Limits {
        bytes: DECODER_BYTES_MAX,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height)?;

    let mut reader = decoder.read_info().map_err(damaged)?;
    let bytes = reader.output_buffer_size().ok_or_else(|| damaged(()))?;
    let mut pixels = Zeroizing::new(vec![0; bytes]);
    let frame = reader.next_frame(&mut pixels).map_err(damaged)?;

    let rows = pixels.chunks_exact(frame.line_size.max(1)).take(height);
    let samples = frame.color_type.samples();
    let grey = rows
        .flat_map(|row| row.chunks_exact(samples).take(width))
        .map(|pixel| grey(frame.color_type, pixel))
        .collect();
    Ok(Grey {
        width,
        height,
        pixels: Zeroizing::new(grey),
    })
}

/// Returns a pixel's shade of grey, on white.
fn grey(colour: ColorType, pixel: &[u8]) -> u8 {
    let (shade, opacity) = match (colour, pixel) {
        (ColorType::GrayscaleAlpha, [shade, opacity]) => (u32::from(*shade), *opacity),
        (_, [red, green, blue]) => (luminance(*red, *green, *blue), u8::MAX),
        (_, [red, green, blue, opacity]) => (luminance(*red, *green, *blue), *opacity),
        (_, [shade, ..]) => (u32::from(*shade), u8::MAX),
        (_, []) => (255, u8::MAX),
    };
    let opacity = u32::from(opacity);

    ((shade * opacity + 255 * (255 - opacity)) / 255) as u8
}

/// The brightness of a colour (ITU-R BT.601).
fn luminance(red: u8, green: u8, blue: u8) -> u32 {
    (u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114) / 1_000
}

fn decode_jpeg(file: &[u8]) -> Result<Grey, String> {
    let options = DecoderOptions::default()
        .set_max_width(SIDE_PIXELS_MAX)
        .set_max_height(SIDE_PIXELS_MAX)
        .jpeg_set_out_colorspace(ColorSpace::Luma);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| damaged(()))?;
    check_size(width, height)?;

    let pixels = Zeroizing::new(decoder.decode().map_err(damaged)?);
    Ok(Grey {
        width,
        height,
        pixels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use png::{BitDepth, Encoder};
    use qrcodegen::{QrCode, QrCodeEcc};

    const TEXT: &str = "otpauth://totp/Bank:alice?secret=MZXW6YTB&issuer=Bank";
    /// The pixels of one module of a code.
    const SCALE: usize = 4;
    /// The modules around a code.
    const BORDER: usize = 4;

    /// Returns a picture of codes side by side: `paint` makes the bytes of a dark or a light pixel.
    fn picture(texts: &[&str], colour: ColorType, paint: impl Fn(bool) -> Vec<u8>) -> Vec<u8> {
        sheet(texts, texts.len(), colour, paint)
    }

    /// Does the same with that many codes in a row.
    fn sheet(
        texts: &[&str],
        columns: usize,
        colour: ColorType,
        paint: impl Fn(bool) -> Vec<u8>,
    ) -> Vec<u8> {
        let codes: Vec<QrCode> = texts
            .iter()
            .map(|text| QrCode::encode_text(text, QrCodeEcc::Medium).expect("short"))
            .collect();
        let side = codes.iter().map(QrCode::size).max().expect("a code") as usize + 2 * BORDER;
        let (width, height) = (side * SCALE * columns, side * SCALE * codes.len() / columns);

        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let code = &codes[y / (side * SCALE) * columns + x / (side * SCALE)];
                let module = |at: usize| (at / SCALE % side) as i32 - BORDER as i32;
                pixels.extend(paint(code.get_module(module(x), module(y))));
            }
        }
        write_png(width as u32, height as u32, colour, &pixels)
    }

    fn write_png(width: u32, height: u32, colour: ColorType, pixels: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, width, height);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(pixels).expect("written");
        writer.finish().expect("complete");

        file
    }

    fn read(file: &[u8]) -> Vec<String> {
        let codes = read_codes(file).expect("a code");

        codes
            .into_iter()
            .map(|code| code.expect("a text").to_string())
            .collect()
    }

    #[test]
    fn a_code_of_any_colours_is_read() {
        let shade = |dark: bool| if dark { 0 } else { 255 };

        let grey = picture(&[TEXT], ColorType::Grayscale, |dark| vec![shade(dark)]);
        let colour = picture(&[TEXT], ColorType::Rgb, |dark| match dark {
            true => vec![20, 40, 120],
            false => vec![255, 250, 200],
        });
        let transparent = picture(&[TEXT], ColorType::Rgba, |dark| {
            vec![0, 0, 0, 255 - shade(dark)]
        });
        let shaded = picture(&[TEXT], ColorType::GrayscaleAlpha, |dark| {
            vec![0, 255 - shade(dark)]
        });

        for file in [grey, colour, transparent, shaded] {
            assert_eq!(read(&file), [TEXT]);
        }
    }

    #[test]
    fn all_codes_of_a_picture_are_read() {
        let other = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8";
        let shade = |dark: bool| vec![if dark { 0 } else { 255 }];
        let file = picture(&[TEXT, other], ColorType::Grayscale, shade);

        let mut texts = read(&file);

        texts.sort();
        assert_eq!(texts, [other, TEXT]);
    }

    #[test]
    fn a_code_that_cannot_be_read_is_named_beside_one_that_can() {
        let shade = |dark: bool| vec![if dark { 0 } else { 255 }];
        let file = picture(&[TEXT, TEXT], ColorType::Grayscale, shade);
        let mut picture = decode_png(&file).expect("a picture");
        // The middle of the second code. The corners, by which a code is found, stay.
        let at = |module: usize| (BORDER + module) * SCALE;
        for y in at(9)..at(24) {
            for x in at(9)..at(24) {
                let row = y * picture.width + picture.width / 2;
                picture.pixels[row + x] = 255 - picture.pixels[row + x];
            }
        }
        let (width, height) = (picture.width as u32, picture.height as u32);
        let file = write_png(width, height, ColorType::Grayscale, &picture.pixels);

        let codes = read_codes(&file).expect("codes");

        assert_eq!(codes.len(), 2);
        let readable: Vec<&Zeroizing<String>> =
            codes.iter().filter_map(|code| code.as_ref().ok()).collect();
        assert_eq!(readable, [&Zeroizing::new(TEXT.to_owned())]);
    }

    /// A picture of corners of codes, for which a search in all of it would take hours.
    #[test]
    fn a_picture_that_takes_too_long_is_refused() {
        const SIDE: usize = 150;
        let is_dark = |x: usize, y: usize| {
            let (x, y) = (x % 9, y % 9);
            let ring = x < 7 && y < 7 && (x == 0 || x == 6 || y == 0 || y == 6);
            ring || (2..5).contains(&x) && (2..5).contains(&y)
        };
        let pixels: Vec<u8> = (0..SIDE * SIDE)
            .map(|at| {
                if is_dark(at % SIDE, at / SIDE) {
                    0
                } else {
                    255
                }
            })
            .collect();
        let file = write_png(SIDE as u32, SIDE as u32, ColorType::Grayscale, &pixels);

        let refused = read_codes_within(&file, Duration::from_millis(100));

        let reason = refused.expect_err("it takes longer");
        assert!(reason.contains("takes too long to read"), "{reason}");
    }

    #[test]
    fn codes_in_rows_are_all_read() {
        let shade = |dark: bool| vec![if dark { 0 } else { 255 }];
        let expected: Vec<String> = (1..=9).map(|number| format!("{TEXT}&n={number}")).collect();
        let texts: Vec<&str> = expected.iter().map(String::as_str).collect();
        let file = sheet(&texts, 3, ColorType::Grayscale, shade);

        let mut texts = read(&file);

        texts.sort();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_tilted_area_is_erased() {
        let mut picture = Grey {
            width: 5,
            height: 5,
            pixels: Zeroizing::new(vec![0; 25]),
        };

        picture.erase(&[(2, 0), (4, 2), (2, 4), (-9, 2)]);

        let white = picture.pixels.iter().enumerate();
        let white: Vec<usize> = white
            .filter_map(|(at, shade)| (*shade == u8::MAX).then_some(at))
            .collect();
        assert_eq!(
            white,
            [2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 22]
        );
    }

    #[test]
    fn a_jpeg_is_read() {
        let file = include_bytes!("../../../tests/it/recorded/qr.jpg");

        assert_eq!(read(file), [TEXT]);
    }

    #[test]
    fn a_picture_without_a_code_or_a_damaged_one_is_refused() {
        let empty = write_png(8, 8, ColorType::Grayscale, &[255; 64]);
        let jpeg = include_bytes!("../../../tests/it/recorded/qr.jpg");

        for file in [
            &empty[..],
            &empty[..empty.len() / 2],
            b"\x89PNG\r\n\x1a\n",
            &jpeg[..40],
            b"\xff\xd8\xff",
        ] {
            assert!(read_codes(file).is_err());
        }
    }

    #[test]
    fn a_picture_has_a_limit_that_is_checked_before_it_is_decoded() {
        let mut file = write_png(8, 8, ColorType::Grayscale, &[255; 64]);
        // The width and the height in the header, and its checksum.
        file[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let checksum = crc32(&file[12..29]);
        file[29..33].copy_from_slice(&checksum.to_be_bytes());

        let reason = read_codes(&file).expect_err("too large");

        assert!(reason.contains("pixels"), "{reason}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                crc >> 1 ^ (0xedb8_8320 * (crc & 1))
            })
        })
    }
}
