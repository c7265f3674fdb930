"""NIfTI files, arrays, images and archives with words wherever there is room for them."""

import io
import struct
import zipfile
import zlib

import nibabel as nib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from . import dicom, words


def nifti(frames: np.ndarray) -> bytes:
    """Of grey frames (T,H,W)."""
    image = nib.Nifti1Image(frames.T, np.diag([1.0, 1.0, 4.0, 1.0]))
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type"):
        size = image.header[field].dtype.itemsize
        image.header[field] = words.name(field)[:size]
    image.header.extensions.append(
        nib.nifti1.Nifti1Extension("comment", words.name("extension").encode())
    )
    return image.to_bytes() + words.name("after_nifti").encode()


def zipped_nifti(frames: np.ndarray) -> bytes:
    """With the name, the extra field and the remark that gzip's header has room for."""
    data, word = nifti(frames), words.name("gzip").encode()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflater.compress(data) + deflater.flush()
    extra = b"zq" + len(word).to_bytes(2, "little") + word
    head = b"\x1f\x8b\x08\x1c" + bytes(6) + len(extra).to_bytes(2, "little") + extra
    end = struct.pack("<II", zlib.crc32(data), len(data))
    return head + word + b"\0" + word + b"\0" + content + end


def array(frames: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, frames)
    return target.getvalue()


def arrays(frames: np.ndarray) -> bytes:
    """With others beside the frames."""
    target = io.BytesIO()
    others = {words.name("member"): np.array([words.name("text")]), "patient": words.number(10)}
    np.savez(target, frames=frames, **others)
    with zipfile.ZipFile(target, "a") as archive:
        archive.comment = words.name("npz_comment").encode()
        archive.writestr(f"{words.name('note')}.txt", words.name("note"))
    return target.getvalue()


def png(frame: np.ndarray) -> bytes:
    info = PngInfo()
    info.add_text("Author", words.name("png_text"))
    info.add_text("Comment", words.name("png_compressed"), zip=True)
    info.add_itxt("XML:com.adobe.xmp", words.name("png_xmp"), zip=True)
    info.add(b"zqXp", words.name("png_private").encode())
    exif = Image.Exif()
    exif[270] = words.name("png_exif")
    target = io.BytesIO()
    Image.fromarray(frame).save(target, "png", pnginfo=info, exif=exif)
    return target.getvalue() + words.name("after_png").encode()


def tiff(frames: np.ndarray) -> bytes:
    first, *others = map(Image.fromarray, frames)
    target = io.BytesIO()
    tags = {
        tag: words.name(f"tiff_{tag}") for tag in (269, 270, 271, 272, 285, 305, 315, 316, 65000)
    }
    first.save(
        target, "tiff", save_all=True, append_images=others, tiffinfo=tags | {306: words.STUDY}
    )
    return target.getvalue() + words.name("after_tiff").encode()


def webp(frame: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[315] = words.name("webp_exif")
    target = io.BytesIO()
    xmp = words.name("webp_xmp").encode()
    Image.fromarray(frame).save(target, "webp", lossless=True, exif=exif, xmp=xmp)
    return target.getvalue()


def bmp(frame: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(frame).save(target, "bmp")
    return target.getvalue() + words.name("after_bmp").encode()


def archive(members: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.comment = words.name("zip_comment").encode()
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.comment = words.name("zip_member").encode()
            entry.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(entry, content)
    return target.getvalue()


def exams(frames: np.ndarray) -> dict[str, bytes]:
    """By name; frames (T,H,W,3), others for each exam."""
    grey = frames[..., 0]
    made = {
        "a.nii": nifti(grey),
        "b.nii.gz": zipped_nifti(grey + 1),
        "c.npy": array(grey + 2),
        "d.npz": arrays(grey + 3),
        "e.tif": tiff(frames + 4),
        "f.webp": webp(frames[0] + 5),
        "g.bmp": bmp(frames[0] + 6),
        "h.jpeg": dicom.jpeg(frames[0] + 7),
        "i.zip": archive({f"{words.name('folder')}/{words.name('member')}.nii": nifti(grey + 8)}),
        "j.zip": archive({f"{n}.png": png(f + 9) for n, f in enumerate(frames)}),
    }
    for number, frame in enumerate(frames):
        made[f"pngs/{number}.png"] = png(frame + 10)
        made[f"jpegs/{number}.jpg"] = dicom.jpeg(frame + 11)
    return made
