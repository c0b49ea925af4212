"""A Tk program that looks like the approval of a network extension on macOS 15, and says what was really clicked and typed.

`python desktop_dialog.py STATE APP PASSWORD`. Every press and every character goes, one JSON object a line, to STATE; the
program's own state ("activated_waiting_for_user", "activated_enabled") too. Standard input takes one command a line:
alert, settings, quit-settings, pad, pad-away, exit. It imports nothing of the harness: it runs with any Python that has tkinter.
"""

from __future__ import annotations

import json
import sys
import tkinter as tk
from pathlib import Path
from tkinter import font as tkfont

WINDOW, PANEL, LINE, TEXT, FAINT = "#ececee", "#fafafb", "#d0d0d3", "#1c1c1e", "#6e6e73"
BUTTON, ACCENT, OFF, WALLPAPER = "#dededf", "#1470f0", "#c8c8cc", "#4a6ea0"


class Drawn(tk.Canvas):
    """A canvas with macOS's shapes on it."""

    def fonts(self, size: int, *, bold: bool = False) -> tkfont.Font:
        return tkfont.Font(self, family="DejaVu Sans", size=-size, weight="bold" if bold else "normal")

    def rounded(self, x0: float, y0: float, x1: float, y1: float, radius: float, fill: str, tags: str = "") -> None:
        for left, top in ((x0, y0), (x1 - 2 * radius, y0), (x0, y1 - 2 * radius), (x1 - 2 * radius, y1 - 2 * radius)):
            self.create_oval(left, top, left + 2 * radius, top + 2 * radius, fill=fill, outline=fill, tags=tags)
        self.create_rectangle(x0 + radius, y0, x1 - radius, y1, fill=fill, outline=fill, tags=tags)
        self.create_rectangle(x0, y0 + radius, x1, y1 - radius, fill=fill, outline=fill, tags=tags)

    def words(self, x: float, y: float, text: str, size: int, *, bold=False, fill=TEXT, anchor="w", width=0) -> int:
        item = self.create_text(
            x, y, text=text, font=self.fonts(size, bold=bold), fill=fill, anchor=anchor, width=width, justify="center"
        )
        return self.bbox(item)[3]

    def press(self, box: tuple[float, float, float, float], text: str, action, *, default: bool = False) -> None:
        tag = f"b{len(self.find_all())}"
        self.rounded(*box, 6, ACCENT if default else BUTTON, tag)
        self.create_text(
            (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, text=text, font=self.fonts(13), tags=tag,
            fill="white" if default else TEXT,
        )  # fmt: skip
        self.tag_bind(tag, "<ButtonRelease-1>", lambda _event: action())


class Program:
    def __init__(self, state: str, app: str, password: str) -> None:
        self.app, self.password = app, password
        self.file = Path(state).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115 - for the program's life
        self.enabled = False
        self.root = tk.Tk()
        width, height = self.root.winfo_screenwidth(), self.root.winfo_screenheight()
        self.root.geometry(f"{width}x{height}+0+0")
        self.root.configure(background=WALLPAPER)
        self.alert: Drawn | None = None
        self.page: Drawn | None = None
        self.sheet = False
        self.question: Drawn | None = None
        self.entry: tk.Entry | None = None
        self.root.createfilehandler(sys.stdin, tk.READABLE, self.command)
        self.say("state", value="activated_waiting_for_user")
        self.root.update()
        self.say("ready", size=[width, height])

    def say(self, what: str, **more: object) -> None:
        self.file.write(json.dumps({"what": what, **more}) + "\n")

    def command(self, *_: object) -> None:
        line = sys.stdin.readline()
        word = line.strip()
        if not line or word == "exit":
            self.root.destroy()
            return
        {"alert": self.show_alert, "settings": self.show_settings, "quit-settings": self.quit_settings, "pad": self.show_pad, "pad-away": self.end_pad}[word]()  # fmt: skip
        self.root.update_idletasks()
        self.say("done", command=word)

    def window(self, width: int, height: int, x: int, y: int) -> Drawn:
        """All windows are inside one: with several, and no window manager, Tk loses the keyboard as the pointer leaves."""
        canvas = Drawn(self.root, width=width, height=height, background=WALLPAPER, highlightthickness=0)
        canvas.place(x=x, y=y)
        tk.Misc.lift(canvas)
        canvas.rounded(0, 0, width - 1, height - 1, 10, WINDOW)
        return canvas

    # --- the alert

    def show_alert(self) -> None:
        x = (self.root.winfo_screenwidth() - 280) // 2
        self.alert = canvas = self.window(280, 330, x, 120)
        canvas.rounded(114, 24, 166, 76, 12, "#5a82c8")
        y = canvas.words(
            140, 92, f"“{self.app}” would like to use a new network extension", 13, bold=True, anchor="n", width=244
        )
        body = (
            "You can enable this extension in Login Items & Extensions. "
            "Network extensions run in the background and can monitor network traffic on your Mac."
        )
        y = canvas.words(140, y + 8, body, 12, anchor="n", width=244)
        canvas.press((16, y + 14, 264, y + 42), "OK", lambda: self.answer("OK"), default=True)
        canvas.press((16, y + 50, 264, y + 78), "Open System Settings", lambda: self.answer("Open System Settings"))

    def answer(self, text: str) -> None:
        self.say("press", target=f"alert/{text}")
        if self.alert is not None:
            self.alert.destroy()
            self.alert = None
        if text == "Open System Settings":
            self.show_settings()

    # --- Settings

    def show_settings(self) -> None:
        if self.page is None:
            self.page = self.window(720, 600, 300, 100)
            self.sheet = False
            self.draw()

    def quit_settings(self) -> None:
        for window in (self.question, self.page):
            if window is not None:
                window.destroy()
        self.page = self.question = self.entry = None

    def draw(self) -> None:
        page = self.page
        assert page is not None
        page.delete("all")
        page.rounded(0, 0, 719, 599, 10, WINDOW)
        page.rounded(0, 0, 200, 599, 10, "#e2e2e6")
        for index, name in enumerate(("Wi-Fi", "Bluetooth", "Network", "General", "Appearance", "Privacy & Security")):
            page.words(22, 70 + 30 * index, name, 13)
        page.words(220, 24, "Login Items & Extensions", 15, bold=True)
        page.words(220, 66, "Open at Login", 13, bold=True)
        page.rounded(220, 80, 700, 140, 6, PANEL)
        page.words(460, 110, "No Items", 13, fill=FAINT, anchor="center")
        page.words(220, 170, "Extensions", 13, bold=True)
        for index, name in enumerate(
            ("Actions", "Driver Extensions", "File Providers", "Finder", "Network Extensions", "Sharing")
        ):
            y = 190 + 42 * index
            page.rounded(220, y, 700, y + 36, 6, PANEL)
            page.words(234, y + 18, name, 13)
            tag = f"info{index}"
            page.create_oval(666, y + 10, 682, y + 26, outline=FAINT, width=1.4, fill=PANEL, tags=tag)
            page.create_text(674, y + 18, text="i", font=page.fonts(11), fill=FAINT, tags=tag)
            page.tag_bind(tag, "<ButtonRelease-1>", lambda _event, name=name: self.info(name))
        if self.sheet:
            self.draw_sheet(page)

    def info(self, name: str) -> None:
        self.say("press", target=f"(i) {name}")
        if name == "Network Extensions":
            self.sheet = True
            self.draw()

    def draw_sheet(self, page: Drawn) -> None:
        page.rounded(109, 79, 611, 341, 10, LINE)
        page.rounded(110, 80, 610, 340, 10, WINDOW)
        page.words(130, 106, "Network Extensions", 14, bold=True)
        page.words(130, 132, "Network extensions run in the background and can monitor", 12, fill=FAINT)
        page.words(130, 148, "network traffic on your Mac.", 12, fill=FAINT)
        for index, name in enumerate(("Another Guard", self.app)):
            y = 168 + 56 * index
            page.rounded(130, y, 590, y + 48, 6, PANEL)
            page.rounded(140, y + 11, 166, y + 37, 6, "#5a82c8")
            page.words(176, y + 16, name, 13)
            page.words(176, y + 34, "Extension", 11, fill=FAINT)
            on = name == self.app and self.enabled
            tag = f"switch{index}"
            page.rounded(520, y + 16, 552, y + 34, 9, ACCENT if on else OFF, tag)
            left = 536 if on else 522
            page.create_oval(left, y + 18, left + 14, y + 32, fill="white", outline="white", tags=tag)
            page.tag_bind(tag, "<ButtonRelease-1>", lambda _event, name=name: self.switch(name))
        page.press((526, 296, 590, 322), "Done", self.done, default=True)

    def switch(self, name: str) -> None:
        self.say("press", target=f"switch {name}")
        if name == self.app and not self.enabled and self.question is None:
            self.ask()

    def done(self) -> None:
        self.say("press", target="sheet/Done")
        self.sheet = False
        self.draw()

    # --- the password

    def ask(self) -> None:
        self.question = canvas = self.window(290, 250, 515, 150)
        canvas.rounded(127, 30, 163, 62, 4, "#e6be3c")
        canvas.words(145, 76, "Login Items & Extensions", 13, bold=True, anchor="n")
        canvas.words(
            145, 98, "Login Items & Extensions is trying to modify your system settings.", 11, anchor="n", width=250
        )
        canvas.words(145, 134, "Enter your password to allow this.", 11, anchor="n")
        self.entry = tk.Entry(
            self.question, show="•", relief="flat", highlightthickness=2, highlightcolor=ACCENT, highlightbackground=LINE,
            font=canvas.fonts(13), background="white", foreground=TEXT, selectbackground="#a8c8fa",
        )  # fmt: skip
        canvas.create_window(16, 158, anchor="nw", width=258, height=28, window=self.entry)
        self.entry.bind("<Alt-a>", self.select_all)
        self.entry.bind("<Return>", lambda _event: self.confirm())
        # Until something is typed it says what it wants, as macOS's fields do.
        hint = tk.Label(
            self.entry, text="Password", font=canvas.fonts(12), background="white", foreground=FAINT, pady=0
        )
        hint.bind("<Button-1>", lambda _event: self.entry.focus_set() if self.entry else None)
        hint.place(x=5, y=2)

        def typed(_event: object) -> None:
            if self.entry is not None:
                self.say("key", length=len(self.entry.get()))
                hint.place_forget() if self.entry.get() else hint.place(x=5, y=2)

        self.entry.bind("<KeyRelease>", typed)
        self.question.update()
        self.entry.focus_set()
        canvas.press((16, 204, 140, 232), "Cancel", self.cancel)
        canvas.press((150, 204, 274, 232), "Modify Settings", self.confirm, default=True)

    def select_all(self, _event: object) -> str:
        if self.entry is not None:
            self.entry.selection_range(0, "end")
        return "break"

    def cancel(self) -> None:
        self.say("press", target="password/Cancel")
        if self.question is not None:
            self.question.destroy()
        self.question = self.entry = None

    def confirm(self) -> None:
        if self.entry is None or self.question is None:
            return
        right = self.entry.get() == self.password
        self.say("press", target="password/Modify Settings", right=right)
        if not right:
            self.entry.delete(0, "end")
            self.entry.event_generate("<KeyRelease>")
            return
        self.question.destroy()
        self.question = self.entry = None
        self.enabled = True
        self.say("state", value="activated_enabled")
        self.draw()

    # --- a place to click and type on, for the driver's own tests

    def show_pad(self) -> None:
        self.pad = canvas = self.window(400, 300, 40, 60)
        field = tk.Text(canvas, font=canvas.fonts(13), width=40, height=8, undo=False)
        canvas.create_window(20, 80, anchor="nw", window=field)
        field.bind("<KeyRelease>", lambda _event: self.say("text", value=field.get("1.0", "end-1c")))
        field.bind("<Alt-a>", lambda _event: (self.say("chord", value="Alt+a"), "break")[1])
        field.bind("<Escape>", lambda _event: self.say("chord", value="Escape"))
        for button, what in ((1, "down"), (4, "up"), (5, "under")):
            self.root.bind_all(
                f"<Button-{button}>", lambda event, what=what: self.say("button", value=what, at=[event.x_root, event.y_root]), add=True
            )  # fmt: skip
        self.root.bind_all(
            "<ButtonRelease-1>",
            lambda event: self.say("button", value="released", at=[event.x_root, event.y_root]),
            add=True,
        )
        canvas.update()
        field.focus_set()

    def end_pad(self) -> None:
        self.pad.destroy()


if __name__ == "__main__":
    program = Program(*sys.argv[1:4])
    program.root.mainloop()
