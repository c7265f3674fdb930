import pytest

from keyslice.exams.stripping.bitstream import stripper

NAME = b"DOE^JOHN"
X264 = bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef")


def _strip(codec: str, packet: bytes, extradata: bytes = b"") -> bytes:
    found = stripper(codec, extradata)
    assert found is not None
    return found[1](packet)


def _sei(kind: int, payload: bytes, header: bytes = b"\x06") -> bytes:
    size = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    return header + bytes([kind]) + size + payload + b"\x80"


def _av1(kind: int, payload: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(payload)]) + payload


@pytest.mark.parametrize("codec", ["ffv1", "rawvideo", "png", "h263", "prores"])
def test_of_other_codecs_nobody_is_certain(codec: str):
    assert stripper(codec, b"") is None


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video", "mpeg4"])
def test_user_data_goes_and_pictures_stay(codec: str):
    picture = b"\x00\x00\x01\x00abc" if codec != "mpeg4" else b"\x00\x00\x01\xb6abc"
    packet = NAME + b"\x00\x00\x01\xb2" + NAME + picture + b"\x00\x00\x01\xbe" + NAME
    assert _strip(codec, packet) == picture


def test_a_copyright_goes_and_other_extensions_stay():
    sequence, copyright_ = b"\x00\x00\x01\xb5\x14\x8a", b"\x00\x00\x01\xb5\x40" + NAME
    assert _strip("mpeg2video", sequence + copyright_) == sequence


@pytest.mark.parametrize(
    ("user_data", "kept"),
    [
        (b"DivX503b1393p", b"DivX503b1393p"),
        (b"XviD0050", b"XviD0050"),
        (b"Lavc52.20.0", b"Lavc52.20.0"),
        (b"FFmpeg v0.4.9 / libavcodec build: 4700", b"FFmpegb4700"),
        (b"FFmpeg0.4.8b4680", b"FFmpegb4680"),
    ],
)
def test_of_user_data_only_the_encoders_name_and_number_stay(user_data: bytes, kept: bytes):
    assert _strip("mpeg4", b"\x00\x00\x01\xb2" + user_data + NAME) == b"\x00\x00\x01\xb2" + kept


def test_what_a_decoder_needs_of_supplemental_information_stays():
    recovery = _sei(6, b"\x88\x40")
    text = _sei(5, X264 + b"x264 - core 120 r2120 - " + NAME + bytes(300))
    packet = b"".join(
        len(unit).to_bytes(4, "big") + unit
        for unit in (recovery, text, _sei(5, bytes(16) + NAME), _sei(4, NAME), b"\x65picture")
    )
    avcc = b"\x01\x64\x00\x0a\xff\xe1\x00\x02\x67S\x01\x00\x02\x68P"
    found = stripper("h264", avcc + NAME)
    assert found is not None
    extradata, strip = found
    stripped = strip(packet)
    assert extradata == avcc
    assert NAME not in stripped
    assert recovery in stripped
    assert X264 + b"x264 - core 120\x00" in stripped
    assert stripped.endswith(b"\x00\x00\x00\x08\x65picture")


def test_supplemental_information_that_stays_still_holds_no_start_code():
    packet = b"\x00\x00\x01\x06\x06\x05\x00\x00\x03\x00\x00\x03\x01\x80"
    assert _strip("h264", packet) == packet


@pytest.mark.parametrize("kind", [0, 6, 9, 12, 14, 20, 24, 31])
def test_units_of_h264_that_are_no_pictures_go(kind: int):
    unit = bytes([kind]) + (b"\x04\x08" if kind == 6 else b"") + NAME
    packet = b"\x00\x00\x00\x01" + unit + b"\x00\x00\x00\x01\x65picture"
    assert _strip("h264", packet) == b"\x00\x00\x01\x65picture"


@pytest.mark.parametrize("kind", [35, 38, 39, 40, 41, 48, 62, 63])
def test_units_of_hevc_that_are_no_pictures_go(kind: int):
    unit = bytes([kind << 1, 1]) + (b"\x05\x08" if kind in (39, 40) else b"") + NAME
    picture = b"\x00\x00\x01\x26\x01picture"
    assert _strip("hevc", b"\x00\x00\x01" + unit + picture) == picture


def test_a_list_of_hevcs_headers_loses_all_but_sets_of_parameters():
    start = b"\x01" + bytes(20) + b"\x0f"
    parameters = b"\xa1\x00\x01\x00\x03\x42\x01S"
    sei = _sei(5, bytes(16) + NAME, b"\x4e\x01")
    extra = b"\xa7\x00\x01" + len(sei).to_bytes(2, "big") + sei
    found = stripper("hevc", start + b"\x02" + parameters + extra)
    assert found is not None
    assert found[0] == start + b"\x01" + parameters


def test_metadata_and_padding_of_av1_go():
    frame = _av1(6, b"picture")
    assert _strip("libdav1d", _av1(5, NAME) + frame + _av1(15, NAME)) == frame
    assert _strip("libdav1d", frame + b"\x28" + NAME) == frame


def test_a_gifs_comments_and_applications_go():
    header = b"GIF89a\x02\x00\x01\x00\x80\x00\x00" + bytes(6)
    control = b"\x21\xf9\x04\x00\x0a\x00\x00\x00"
    image = b"\x2c\x00\x00\x00\x00\x02\x00\x01\x00\x00\x02\x02\x44\x0a\x00"
    comment = b"\x21\xfe\x08" + NAME + b"\x00"
    application = b"\x21\xff\x0bNETSCAPE2.0\x08" + NAME + b"\x00"
    stripped = _strip("gif", header + application + comment + control + image + b";" + NAME)
    assert stripped == header + control + image


@pytest.mark.parametrize(
    ("codec", "packet"),
    [
        ("h264", b"\x00\x00\x00\x09\x65short"),
        ("libdav1d", b"\x32\x09short"),
        ("gif", b"neither"),
        ("gif", b"\x21\xf9\x04"),
    ],
)
def test_a_damaged_packet_is_told(codec: str, packet: bytes):
    extradata = b"\x01\x64\x00\x0a\xff\xe0\x00" if codec == "h264" else b""
    with pytest.raises((ValueError, IndexError)):
        _strip(codec, packet, extradata)
