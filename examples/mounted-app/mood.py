"""An application of your own, with a page and a WebSocket, mounted beside a model that it calls."""

import numpy as np
from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse
from jaxtyping import Float32

import samovar

GOOD, BAD = {"warm", "bright", "fine", "glad", "tea"}, {"cold", "grey", "sad", "late", "rain"}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mood</title>
<input id="text" size="60" autofocus aria-label="text"> <output id="mood"></output>
<script>
const socket = new WebSocket(new URL("live", location.href.replace("http", "ws")));
socket.onmessage = (message) => { mood.value = JSON.parse(message.data).mood; };
text.oninput = () => socket.send(text.value);
</script></html>"""
app = FastAPI()


@samovar.model
class Mood:
    """Good words less bad ones."""

    def predict(self, texts: samovar.Bytes[np.ndarray, "batch"]) -> Float32[np.ndarray, "batch"]:
        words = [set(text.decode().lower().split()) for text in texts]
        return np.array([len(found & GOOD) - len(found & BAD) for found in words], np.float32)


@samovar.service
class Desk:
    """Nothing but the application: its page is at /ui/."""

    mood = samovar.use(Mood)
    samovar.mount("/ui", app)


@app.get("/")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.websocket("/live")
async def live(socket: WebSocket) -> None:
    """One answer for each text."""
    await socket.accept()
    async for text in socket.iter_text():
        (mood,) = await Desk.mood.predict([text])
        await socket.send_json({"text": text, "mood": float(mood)})
