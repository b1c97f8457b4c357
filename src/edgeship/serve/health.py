"""What operators' tools ask: whether the server lives, whether it wants requests, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from edgeship.serve import metrics
from edgeship.serve.server import server_of

router = APIRouter()


@router.get("/health/live")
@router.head("/health/live", include_in_schema=False)
async def live() -> dict[str, str]:
    """That the server answers at all."""
    return {"status": "ok"}


@router.get("/health")
@router.get("/health/ready")
@router.get("/ready")
@router.head("/health", include_in_schema=False)
@router.head("/health/ready", include_in_schema=False)
@router.head("/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """Whether it wants requests: 503 while models are loaded that are to be ready, and once it is told to end."""
    if server_of(request).ready:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "not ready"}, status_code=503, headers={"retry-after": "1"})


@router.get("/metrics", response_class=Response)
@router.head("/metrics", include_in_schema=False)
async def read_metrics(request: Request) -> Response:
    """What Prometheus reads."""
    return Response(await server_of(request).metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})
