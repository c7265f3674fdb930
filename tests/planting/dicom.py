"""DICOM objects with words in every element that may hold text, a date, an identifier or bytes."""

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image
from pydicom import Dataset, FileMetaDataset, Sequence, uid
from pydicom.datadict import DicomDictionary
from pydicom.encaps import encapsulate

from . import videos, words

TEXT = {"LO", "SH", "PN", "ST", "LT", "UT", "UC", "UR"}
VALUES = {
    "DA": (words.STUDY, words.BIRTH),
    "DT": (f"{words.STUDY}101112",),
    "UI": tuple(words.uid(place) for place in range(100, 200)),
}
NEEDED = {"SOPClassUID", "SpecificCharacterSet"}
NAMED = {
    "PatientName": words.name("patient"),
    "PatientID": words.number(1),
    "PatientBirthDate": words.BIRTH,
    "OtherPatientIDs": words.number(2),
    "AccessionNumber": words.number(3),
    "StudyID": words.number(4),
    "DeviceSerialNumber": words.number(5),
    "InstitutionName": words.name("hospital"),
    "ReferringPhysicianName": words.name("physician"),
    "OperatorsName": words.name("operator"),
    "StudyDate": words.STUDY,
    "BodyPartExamined": f"{words.NAME}CS",
    "ProtocolName": words.name("protocol"),
    "Manufacturer": words.name("Siemens"),
    "ImageType": ["ORIGINAL", "PRIMARY", f"{words.NAME}TYPE"],
    "BurnedInAnnotation": f"{words.NAME}NO",
    "PatientOrientation": [f"{words.NAME}L", "P"],
}
SIZE = 24


def _everywhere() -> dict[str, tuple[str, str]]:
    """Keyword and type of all elements of the dictionary that are filled, by their tag's order."""
    types = TEXT.union(VALUES)
    return {
        keyword: (vr, name)
        for tag, (vr, _, name, _, keyword) in sorted(DicomDictionary.items())
        if vr in types and keyword and keyword not in NEEDED and tag >> 16 > 2
    }


ELEMENTS = _everywhere()


def _fill(dataset: Dataset) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that a type does not allow
        for place, (keyword, (vr, _)) in enumerate(ELEMENTS.items()):
            values = VALUES.get(vr, (words.name(keyword)[:60],))
            setattr(dataset, keyword, values[place % len(values)])
        for keyword, value in NAMED.items():
            setattr(dataset, keyword, value)
    return dataset


def _named(place: str) -> Dataset:
    item = Dataset()
    item.PatientName, item.PatientID = words.name(place), words.number(6)
    item.CodeMeaning, item.PatientBirthDate = words.name(place), words.BIRTH
    return item


def _image(series: int, number: int) -> Dataset:
    """All but the samples and what describes them."""
    image = _fill(Dataset())
    image.file_meta = meta = FileMetaDataset()
    meta.ImplementationVersionName = words.NAME
    meta.SourceApplicationEntityTitle = words.NAME
    meta.PrivateInformationCreatorUID = words.uid(7)
    meta.PrivateInformation = words.name("file_meta").encode()
    image.SOPClassUID = meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = words.uid(1000 * series + number)
    image.SeriesInstanceUID, image.StudyInstanceUID = words.uid(series), words.uid(8)
    image.Modality, image.InstanceNumber = "CT", number + 1
    image.ImagePositionPatient = [0, 0, 2 * number]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [1, 1], 2
    nested = _named("nested")
    nested.RequestAttributesSequence = Sequence([_named("nested_twice")])
    nested.ReferencedImageSequence = Sequence([_fill(Dataset())])
    image.RequestAttributesSequence = Sequence([nested, _named("nested")])
    icon = _named("icon")
    icon.PixelData = words.name("icon").encode()
    icon["PixelData"].VR = "OB"
    image.IconImageSequence = Sequence([icon])
    for group in (0x0009, 0x0029, 0x7FE1):
        block = image.private_block(group, words.name("creator"), create=True)
        block.add_new(1, "LO", words.name("private"))
        block.add_new(2, "OB", words.name("private_bytes").encode())
        block.add_new(3, "SQ", Sequence([_named("private_nested")]))
        block.add_new(4, "UN", words.name("private_unknown").encode())
    word = words.name("overlay_bits").encode()
    for group in (0x6000, 0x6002):
        image.add_new((group, 0x0010), "US", SIZE)
        image.add_new((group, 0x0011), "US", SIZE)
        image.add_new((group, 0x0022), "LO", words.name("overlay_description"))
        image.add_new((group, 0x0040), "CS", "G")
        image.add_new((group, 0x0050), "SS", [1, 1])
        image.add_new((group, 0x0100), "US", 1)
        image.add_new((group, 0x1500), "LO", words.name("overlay_label"))
        image.add_new((group, 0x4000), "LT", words.name("overlay_comment"))
        image.add_new((group, 0x3000), "OW", word.ljust(SIZE * SIZE // 8, b"\0"))
    image.add_new((0x5000, 0x0022), "LO", words.name("curve_description"))
    image.add_new((0x5000, 0x3000), "OW", words.name("curve").encode() + b" ")
    image.add_new((0xFFFC, 0xFFFC), "OB", words.name("padding").encode())
    return image


def _described(image: Dataset, frames: np.ndarray, bits: int = 8) -> Dataset:
    colour = frames.ndim == 4
    if len(frames) > 1:
        image.NumberOfFrames = len(frames)
    image.Rows, image.Columns = frames.shape[1:3]
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    image.BitsAllocated, image.BitsStored = 8 * frames.itemsize, bits
    image.HighBit, image.PixelRepresentation = bits - 1, 0
    return image


def _saved(image: Dataset, syntax: uid.UID, content: bytes) -> bytes:
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = content
    vr = "OW" if not syntax.is_encapsulated and image.BitsAllocated == 16 else "OB"
    image["PixelData"].VR = vr
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save_as(target, enforce_file_format=True)
    data = target.getvalue()
    return words.name("preamble").encode().ljust(128, b"\0") + data[128:]


def _coded(series: int, frames: np.ndarray, syntax: uid.UID, code: Callable[..., bytes]) -> bytes:
    image = _described(_image(series, 0), frames)
    if syntax == uid.JPEGBaseline8Bit and frames.ndim == 4:
        image.PhotometricInterpretation = "YBR_FULL_422"
    if syntax == uid.JPEG2000 and frames.ndim == 4:
        image.PhotometricInterpretation = "YBR_RCT"
    return _saved(image, syntax, encapsulate([*map(code, frames)]))


def jpeg(frame: np.ndarray) -> bytes:
    """With EXIF, XMP, a comment, a vendor's segment and something behind its end."""
    target = io.BytesIO()
    exif = Image.Exif()
    exif[270], exif[315] = words.name("exif_description"), words.name("exif_artist")
    exif.get_ifd(0x8769)[0x927C] = words.name("maker_note").encode()
    exif.get_ifd(0x8825)[29] = words.STUDY
    Image.fromarray(frame).save(
        target, "jpeg", exif=exif, comment=words.name("jpeg_comment").encode(), quality=95
    )
    data = target.getvalue()
    for marker, start in ((0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xED, b"Photoshop 3.0\0")):
        body = start + words.name(f"segment_{marker:x}").encode()
        data = (
            data[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
        )
    return data + words.name("after_jpeg").encode()


def _jpeg2000(frame: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(frame).save(target, "jpeg2000", comment=words.name("j2k"), no_jp2=True)
    return target.getvalue() + words.name("after_j2k").encode()


def _jpeg_ls(frame: np.ndarray) -> bytes:
    from jpeg_ls import encode_array

    data, word = bytes(encode_array(frame)), words.name("jpeg_ls").encode()
    comment = b"\xff\xfe" + (len(word) + 2).to_bytes(2, "big") + word
    return data[:2] + comment + data[2:] + word


def _runs(frame: np.ndarray) -> bytes:
    """One segment of literal runs, with something behind it."""
    flat = frame.tobytes()
    pieces = [flat[start : start + 128] for start in range(0, len(flat), 128)]
    coded = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    head = (1).to_bytes(4, "little") + (64).to_bytes(4, "little")
    return head.ljust(64, b"\0") + coded + words.name("after_runs").encode()


def single(series: int, frame: np.ndarray) -> bytes:
    """A series of one slice (H,W), not compressed."""
    image = _described(_image(series, 0), frame[None])
    return _saved(image, uid.ExplicitVRLittleEndian, frame.tobytes())


def enhanced(series: int, frames: np.ndarray) -> bytes:
    """An object of many frames (T,H,W), with words in what it says of each."""
    image = _described(_image(series, 0), frames)
    image.SharedFunctionalGroupsSequence = Sequence([_named("shared")])
    image.PerFrameFunctionalGroupsSequence = Sequence(
        [_named(f"frame_{place}") for place in range(len(frames))]
    )
    return _saved(image, uid.ImplicitVRLittleEndian, frames.tobytes())


def files(frames: np.ndarray) -> dict[str, bytes]:
    """An exam for each folder; frames (T,H,W,3), others for each.

    The last holds words in the bits of its samples that are not used.
    """
    frames = frames[:, :SIZE, :SIZE]
    grey = frames[..., 0].copy()
    made = {}
    for number, frame in enumerate(grey):
        image = _described(_image(1, number), frame[None])
        made[f"plain/{number}.dcm"] = _saved(image, uid.ExplicitVRLittleEndian, frame.tobytes())
    image = _described(_image(2, 0), grey + 1)
    made["deflated/0"] = _saved(image, uid.DeflatedExplicitVRLittleEndian, (grey + 1).tobytes())
    for series, (folder, syntax, code, shift, colour) in enumerate(
        (
            ("jpeg", uid.JPEGBaseline8Bit, jpeg, 2, True),
            ("jpeg_grey", uid.JPEGBaseline8Bit, jpeg, 3, False),
            ("jpeg2000", uid.JPEG2000, _jpeg2000, 4, True),
            ("jpeg_ls", uid.JPEGLSLossless, _jpeg_ls, 5, False),
            ("runs", uid.RLELossless, _runs, 6, False),
        ),
        start=3,
    ):
        source = np.roll(frames if colour else grey, shift, axis=1)
        made[f"{folder}/0.dcm"] = _coded(series, source, syntax, code)
    image = _described(_image(8, 0), frames)
    image.PhotometricInterpretation = "YBR_PARTIAL_420"
    video = videos.stream(np.roll(frames, 7, axis=1))
    made["video/0.dcm"] = _saved(image, uid.MPEG4HP41, encapsulate([video]))
    made["enhanced/0.dcm"] = enhanced(9, grey[:, ::-1])
    text = (words.name("unused_bits") * grey.size).encode()[: grey.size]
    high = np.frombuffer(text, np.uint8).reshape(grey.shape).astype(np.uint16) << 8
    image = _described(_image(10, 0), grey[:, :, ::-1] + high)
    made["unused/0.dcm"] = _saved(
        image, uid.ExplicitVRLittleEndian, (grey[:, :, ::-1] + high).astype("<u2").tobytes()
    )
    return made


def index() -> bytes:
    """A DICOMDIR."""
    image = _image(11, 0)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = uid.MediaStorageDirectoryStorage
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save_as(target, enforce_file_format=True)
    return target.getvalue()
