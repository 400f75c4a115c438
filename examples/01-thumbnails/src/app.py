"""Three thumbnails of every photo that arrives: an AWS Lambda handler, with nothing in it that knows of Okiba.

Running again for the same photo writes the same objects again, so events that come twice do no harm. A file that is
no photo raises an error: the event is tried again, and then kept among the dead letters.
"""

import hashlib
import io
import os
import warnings
from urllib.parse import unquote_plus

import boto3
from PIL import Image, ImageOps, UnidentifiedImageError

# The longest side, in pixels; photos are made smaller, never larger. Largest first: each is made from the one before.
SIZES = {"web": 480, "tablet": 320, "mobile": 160}

# Only what a photo may be: Pillow also reads formats whose decoders are rarely looked at.
FORMATS = ("JPEG", "PNG", "WEBP")

MAX_FILE_BYTES = 50_000_000

# 40 megapixels, decoded: 160 MB. A "decompression bomb" is a small file with a great many pixels; here it is an error.
Image.MAX_IMAGE_PIXELS = 40_000_000
warnings.simplefilter("error", Image.DecompressionBombWarning)

s3 = boto3.client("s3")


class NotAPhoto(Exception):
    """The object cannot be read as a photo; trying again will not help."""


def handler(event, context):
    """Makes the thumbnails of every photo in the event and returns their keys."""
    written = []
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = unquote_plus(record["s3"]["object"]["key"])
        photo = opened(fetched(bucket, key), f"s3://{bucket}/{key}")
        for size, thumbnail in thumbnails(photo):
            written.append(stored(thumbnail, thumbnail_key(key, size)))
    return {"thumbnails": written}


def fetched(bucket, key):
    answer = s3.get_object(Bucket=bucket, Key=key)
    if answer["ContentLength"] > MAX_FILE_BYTES:
        raise NotAPhoto(f"s3://{bucket}/{key} has {answer['ContentLength']} bytes; {MAX_FILE_BYTES} are allowed")
    return answer["Body"].read()


def opened(content, name):
    """The photo, upright, in RGB, no larger than the largest thumbnail."""
    largest = max(SIZES.values())
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.draft("RGB", (2 * largest, 2 * largest))  # JPEG's decoder can halve the size while it reads
            photo = in_true_colours(image)
        photo.thumbnail((largest, largest))
        return ImageOps.exif_transpose(on_white(photo))
    except UnidentifiedImageError as error:
        raise NotAPhoto(f"{name} is not a photo: it begins like none of {', '.join(FORMATS)}") from error
    # What Pillow raises for broken files is as varied as the ways of breaking them.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise NotAPhoto(f"{name} is not a photo that can be read: {error}") from error


def in_true_colours(image):
    """A copy in a mode that can be made smaller smoothly, which palettes, one bit and 16 bits cannot."""
    if image.mode == "I;16":
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("1", "P"):
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image.copy()


def on_white(image):
    """JPEG has no transparency."""
    if "A" not in image.getbands():
        return image.convert("RGB")
    exif = image.getexif()
    background = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    flat.info["exif"] = exif.tobytes()
    return flat


def thumbnails(photo):
    for size, pixels in SIZES.items():
        photo.thumbnail((pixels, pixels))
        yield size, photo


def stored(thumbnail, key):
    body = io.BytesIO()
    thumbnail.save(body, "JPEG", quality=85, optimize=True)
    bucket = os.environ["THUMBNAILS_BUCKET"]
    s3.put_object(Bucket=bucket, Key=key, Body=body.getvalue(), ContentType="image/jpeg")
    return key


def thumbnail_key(key, size):
    """Where a photo's thumbnail goes: always the same for the same photo, never the same for two."""
    path = f"{key}/{size}.jpg"
    if len(path.encode()) <= 1024:  # the longest key that S3 allows
        return path
    return f"{hashlib.sha256(key.encode()).hexdigest()}/{size}.jpg"
