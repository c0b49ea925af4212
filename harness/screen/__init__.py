"""What a person would see and click: frames, pointer and keyboard, and reading macOS's prompts off them."""

from harness.screen.catalog import Catalog, default_catalog, load_catalog
from harness.screen.errors import ScreenError, UnsupportedCharacter
from harness.screen.frames import Box, Frame, Screen, Watcher, changed_regions, is_black, save_png
from harness.screen.ocr import RapidReader, Reader, TextLine
from harness.screen.recognise import recognise
from harness.screen.rfb import VncScreen
from harness.screen.sighting import Button, Sighting

__all__ = [
    "Box",
    "Button",
    "Catalog",
    "Frame",
    "RapidReader",
    "Reader",
    "Screen",
    "ScreenError",
    "Sighting",
    "TextLine",
    "UnsupportedCharacter",
    "VncScreen",
    "Watcher",
    "changed_regions",
    "default_catalog",
    "is_black",
    "load_catalog",
    "recognise",
    "save_png",
]
