"""Image files to stored pixels: right, or refused by name."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from inversion.data import formats
from inversion.data.decode import decode_photo
from inversion.errors import DataError

SIDE = 37  # stored size of crops of 32 pixels


def photo(width: int = 60, height: int = 50, seed: int = 0) -> Image.Image:
    values = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(values)


def refusal(path: Path, side: int = SIDE) -> str:
    with pytest.raises(DataError) as caught:
        decode_photo(path, side)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("size", [(60, 50), (50, 62), (63, 50), (37, 37), (37, 90), (301, 40), (64, 64), (33, 35)])
def test_pixels_equal_torchvisions_resize(tmp_path: Path, size: tuple[int, int]) -> None:
    from torchvision.transforms import Resize  # type: ignore[import-untyped]

    original = photo(*size)
    original.save(tmp_path / "photo.png")
    expected = np.asarray(Resize(SIDE)(original))
    pixels = decode_photo(tmp_path / "photo.png", SIDE)
    assert pixels.dtype == np.uint8
    assert min(pixels.shape[:2]) == SIDE
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "jp2", "jpg", "webp"])
def test_every_format_by_extension_is_read(tmp_path: Path, extension: str) -> None:
    name = f"photo.{extension}"
    flat = Image.new("RGB", (SIDE, SIDE), (200, 100, 50))
    flat.save(tmp_path / name)
    error = np.abs(decode_photo(tmp_path / name, SIDE).astype(int) - (200, 100, 50))
    assert error.max() <= (3 if name.endswith(("jpg", "webp")) else 0)


def test_greyscale_gives_three_equal_channels(tmp_path: Path) -> None:
    grey = photo(SIDE, SIDE).convert("L")
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(decode_photo(tmp_path / "grey.png", SIDE), np.stack([np.asarray(grey)] * 3, axis=2))


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    palette = photo(SIDE, SIDE).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(decode_photo(tmp_path / "palette.png", SIDE), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    original = photo(60, 50)
    exif = Image.Exif()
    exif[0x0112] = orientation
    original.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        upright = ImageOps.exif_transpose(image)
    assert upright.size == ((50, 60) if orientation > 4 else (60, 50))
    expected = upright.resize((SIDE, 44) if orientation > 4 else (44, SIDE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode_photo(tmp_path / "turned.png", SIDE), np.asarray(expected))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_grey_tiff_on_its_side_is_turned_once(
    tmp_path: Path, kind: type[np.generic], compression: str | None
) -> None:
    grey = np.random.RandomState(0).randint(0, 256, (60, SIDE))
    exif = Image.Exif()
    exif[0x0112] = 6
    values = (grey * 257 if kind is np.uint16 else grey).astype(kind)
    Image.fromarray(values).save(tmp_path / "turned.tif", exif=exif, compression=compression)
    np.testing.assert_array_equal(decode_photo(tmp_path / "turned.tif", SIDE)[..., 0], np.rot90(grey, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (SIDE, SIDE), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    half = (0, 0, 0, 128) if mode == "RGBA" else (0, 128)
    image.paste(half, (0, 0, SIDE, 10))
    image.save(tmp_path / "clear.png")
    pixels = decode_photo(tmp_path / "clear.png", SIDE)
    assert pixels[20, 20].tolist() == [255, 255, 255]
    assert pixels[2, 2].tolist() == [127, 127, 127]


def test_a_transparent_palette_entry_is_laid_over_white(tmp_path: Path) -> None:
    palette = Image.new("P", (SIDE, SIDE), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.paste(1, (0, 0, 10, 10))
    palette.save(tmp_path / "key.png", transparency=0)
    pixels = decode_photo(tmp_path / "key.png", SIDE)
    assert pixels[5, 5].tolist() == [0, 0, 255]
    assert pixels[20, 20].tolist() == [255, 255, 255]


def test_a_palette_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("PA", (SIDE, SIDE))
    image.putpalette([255, 0, 0])
    image.save(tmp_path / "key.tif")
    with Image.open(tmp_path / "key.tif") as opened:
        assert opened.mode == "PA"
    assert decode_photo(tmp_path / "key.tif", SIDE)[5, 5].tolist() == [255, 255, 255]


def test_cmyk_is_converted_to_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red, green, blue = decode_photo(tmp_path / "red.jpg", SIDE)[5, 5].tolist()
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize(("name", "byte_order"), [("grey.png", "<"), ("grey.tif", "<"), ("big.tif", ">"),
                                                  ("grey.jp2", "<"), ("grey.ppm", "<")])
def test_16_bit_grey_is_scaled_and_not_saturated(tmp_path: Path, name: str, byte_order: str) -> None:
    grey = np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)
    Image.fromarray((grey * 257).astype(f"{byte_order}u2")).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode.startswith("I")
        if byte_order == ">":
            assert image.mode == "I;16B"
    np.testing.assert_array_equal(decode_photo(tmp_path / name, SIDE)[..., 0], grey)


def test_16_bit_grey_is_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.full((SIDE, SIDE), 257 * 100 + 129, np.uint16)  # above 100.5 levels; its upper byte is 100
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert set(np.unique(decode_photo(tmp_path / "grey.png", SIDE))) == {101}


def test_16_bit_tiff_that_counts_from_white_is_inverted(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(tmp_path / "grey.tif", tiffinfo={262: 0})
    assert decode_photo(tmp_path / "grey.tif", SIDE).min() == 255


def test_12_bit_tiff_reaches_white(tmp_path: Path) -> None:
    path = tmp_path / "grey.tif"
    row_bytes = (SIDE * 12 + 7) // 8
    entries = [(256, SIDE), (257, SIDE), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, SIDE),
               (279, row_bytes * SIDE)]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + b"\xff" * row_bytes * SIDE)
    data = path.read_bytes()
    assert len(data) == 122 + row_bytes * SIDE
    assert decode_photo(path, SIDE).min() == 255


def test_32_bit_grey_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((SIDE, SIDE), 70000, np.int32)).save(tmp_path / "deep.tif")
    assert "70000" in refusal(tmp_path / "deep.tif")


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_values_are_refused(tmp_path: Path, bits: int) -> None:
    """Pillow reads -1 as 255, and 32,767 as half of white."""
    pixels = np.zeros((SIDE, SIDE), np.uint8 if bits == 8 else np.uint16)
    Image.fromarray(pixels).save(tmp_path / "signed.tif", tiffinfo={339: (2,)})
    assert "signed values" in refusal(tmp_path / "signed.tif")


def test_floating_point_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((SIDE, SIDE), np.float32)).save(tmp_path / "float.tif")
    assert "floating-point" in refusal(tmp_path / "float.tif")


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.tif", "cut.bmp", "cut.jp2"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    photo().save(path)
    content = path.read_bytes()
    for length in (len(content) // 2, 30):
        path.write_bytes(content[:length])
        refusal(path)


@pytest.mark.parametrize("content", [b"", b"only text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0" + bytes(8),
                                     b"P6 10", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n"])
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.png").write_bytes(content)
    refusal(tmp_path / "text.png")


def is_refused(path: Path) -> bool:
    """Whether it is refused; any error but a DataError that names the file fails the test."""
    try:
        decode_photo(path, SIDE)
    except DataError as error:
        return str(error).startswith(f"{path}: ") or pytest.fail(f"not by name: {error}")
    return False


def test_damaged_bytes_never_raise_anything_but_a_data_error(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    path = tmp_path / "damaged"
    refused = 0
    for name in ("x.png", "x.jpg", "x.tif", "x.webp", "x.gif"):
        photo(40, 40).save(tmp_path / name)
        original = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for _ in range(30):
            content = original.copy()
            content[random.randint(0, min(len(content), 200), 8)] = random.randint(0, 256, 8)
            path.write_bytes(content.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                refused += is_refused(path)
    assert refused > 30


def test_a_missing_file_is_refused_with_the_systems_reason(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.png") == f"{tmp_path / 'none.png'}: No such file or directory"


def huge_png(path: Path, width: int, height: int) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("size", [(50000, 50000), (10001, 10000)])
def test_more_than_100_megapixels_are_refused_from_the_header(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: ImageFile.ImageFile) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert "more than 100 megapixels" in refusal(huge_png(tmp_path / "huge.png", *size))


def test_pillows_own_limit_neither_warns_nor_changes(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert "megapixels" not in refusal(huge_png(tmp_path / "large.png", 9900, 10000))  # 99: refused for its content
    assert not recwarn.list
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_frames_are_refused(tmp_path: Path, format_: str) -> None:
    path = tmp_path / "moving.png"
    frames = [photo(seed=seed) for seed in range(3)]
    frames[0].save(path, format_, save_all=True, append_images=frames[1:])
    assert "3 frames" in refusal(path)


def test_of_a_telephones_two_pictures_the_first_is_taken(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (SIDE, SIDE), "red"), Image.new("RGB", (SIDE, SIDE), "blue")
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    red, _, blue = decode_photo(tmp_path / "phone.jpg", SIDE)[5, 5].tolist()
    assert red > 240
    assert blue < 15


def test_a_shorter_side_below_the_crop_is_refused_and_the_crop_itself_is_not(tmp_path: Path) -> None:
    photo(32, 60).save(tmp_path / "just.png")
    photo(31, 60).save(tmp_path / "small.png")
    assert decode_photo(tmp_path / "just.png", SIDE).shape == (69, SIDE, 3)
    assert "31×60 is too small: the shorter side must have 32 pixels" in refusal(tmp_path / "small.png")


def test_the_smallest_side_is_the_crop_for_every_image_size() -> None:
    from inversion.images import RESIZE_RATIO, stored_size

    assert all(round(stored_size(size) / RESIZE_RATIO) == size for size in range(32, 1025, 32))


def test_a_name_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    path = Path(str(tmp_path)) / "caf\udce9.png"
    path.write_bytes(b"text")
    with pytest.raises(DataError) as caught:
        decode_photo(path, SIDE)
    assert "caf�.png" in str(caught.value)
    str(caught.value).encode("utf-8")


def test_only_formats_that_are_listed_are_tried() -> None:
    assert "EPS" not in formats.formats()
