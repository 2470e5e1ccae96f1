"""POST /v1/embeddings."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest

from luhuo.core.language import tr
from luhuo.serve.errors import not_offered, wrong
from luhuo.serve.house import caller_of, house_of, note
from luhuo.serve.schemas import EmbeddingsBody

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(request: HttpRequest, body: EmbeddingsBody) -> dict[str, Any]:
    """One vector for each text. A text longer than the model can look at is refused, not cut."""
    house = house_of(request)
    served = house.models.find(body.model)
    encoder = served.encoder
    if encoder is None:
        raise not_offered(tr(f"embeddings of “{served.name}”", f"“{served.name}”的嵌入向量"), "model")
    texts = [body.input] if isinstance(body.input, str) else body.input
    width = encoder.config.hidden_size
    if body.dimensions is not None and body.dimensions != width:
        raise wrong(tr(f"This model's vectors have {width} dimensions.", f"该模型的向量为 {width} 维。"), "dimensions")
    ticket = house.admission.enter(caller_of(request), len(texts))
    tokens = 0
    try:
        limit = served.embedding_limit
        counts = await house.prepare(lambda: [len(served.tokenizer.encode(text, framed=True)) for text in texts])
        for place, count in enumerate(counts):
            if not count:
                raise wrong(tr(f"input[{place}] is an empty text.", f"input[{place}] 是空文本。"), "input")
            if count > limit:
                message = tr(
                    f"input[{place}] has {count} tokens, and this model reads {limit}.",
                    f"input[{place}] 有 {count} 个词元，而该模型最多读取 {limit} 个。",
                )
                raise wrong(message, "input", "context_length_exceeded")
        async with served.lock:
            vectors = await house.compute(lambda: encoder.embed(texts).numpy())
        tokens = sum(counts)
    finally:
        ticket.close(tokens)
    note(request, model=served.name, prompt_tokens=tokens)
    house.metrics.count("luhuo_prompt_tokens_total", "Tokens of prompts.", tokens, model=served.name)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if body.encoding_format == "base64"
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": served.name, "usage": usage}
