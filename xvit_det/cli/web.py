"""``xvit-det web [CHECKPOINT [CHECKPOINT]]``: a page in the browser to try one trained model, or compare two."""

import os
import signal
import socket
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from xvit_det.cli.common import Arguments, add_model_arguments, check_positive, command, load_models, make_parser
from xvit_det.errors import InputError


def _parser() -> ArgumentParser:
    parser = make_parser(
        'web',
        'Serve a page that shows what a trained detector, segmentor or classifier finds in images dropped onto it,\n'
        'with one checkpoint or two side by side. Only this machine can open it, unless --host says otherwise.',
    )
    parser.add_argument(
        'checkpoint',
        nargs='*',
        default=['work_dirs/demo/checkpoint.pth'],
        help='the trained weights, or their address, of one or two models (default: those of the demo)',
    )
    add_model_arguments(parser)
    parser.add_argument(
        '--examples', metavar='DIR', help="images offered on the page (default: the config's test images, if there)"
    )
    parser.add_argument(
        '--host', default='127.0.0.1', metavar='ADDRESS', help='address to listen at (default: %(default)s)'
    )
    parser.add_argument('--port', type=int, default=7860, metavar='N', help='0: any free one (default: %(default)s)')
    parser.add_argument(
        '--max-size-mb', type=int, default=20, metavar='N', help='of an uploaded file (default: %(default)s)'
    )
    parser.add_argument(
        '--max-megapixels', type=int, default=50, metavar='N', help='of an image (default: %(default)s)'
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the command with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'max-size-mb', 'max-megapixels')
    if len(args.checkpoint) > 2:
        raise InputError(f'the page shows one or two checkpoints, not {len(args.checkpoint)}')
    with _listen(args.host, args.port) as listener, tempfile.TemporaryDirectory(prefix='xvit-det-web-') as folder:
        # Read by Gradio when it is imported. All files that it serves, uploads among them, are in this folder.
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_EXAMPLES_CACHE=folder, GRADIO_ANALYTICS_ENABLED='False')
        try:
            import gradio  # noqa: F401
        except ModuleNotFoundError as error:
            raise InputError(f"the page needs gradio (no module {error.name}): `pip install 'xvit_det[web]'`") from None
        _serve(_make_page(args, folder), listener, args.max_size_mb)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that nobody else can take while the models are loaded."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, 'strerror', None) or error).partition(' (')[0]
        raise InputError(f'cannot listen at {host}, port {port}: {reason}; choose others by --host, --port') from None


def _make_page(args: Namespace, folder: str) -> Any:
    """The page with its models and examples."""
    from PIL import Image

    from xvit_det.cli.web_page import build_page, find_examples

    Image.MAX_IMAGE_PIXELS = args.max_megapixels * 500_000  # Pillow refuses more than twice as many
    models = load_models(args)
    examples = find_examples(args.examples, models[0].cfg)
    return build_page(args.checkpoint, models, examples, folder, args.max_megapixels)


def _serve(page: Any, listener: socket.socket, max_size_mb: int) -> None:
    """Serve the page until the process is interrupted or terminated.

    Not by Gradio's ``launch``, which asks its own address for a page: that fails behind a company's proxy.
    """
    import gradio
    import uvicorn
    from fastapi import FastAPI

    from xvit_det.cli.web_page import STYLE

    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path='/',
        footer_links=[],
        run_history=False,
        css=STYLE,
        max_file_size=f'{max_size_mb}mb',
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    page.has_launched = True  # else Gradio takes any path in a request for that of an uploaded file
    server = uvicorn.Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder is removed then, too
    with suppress(KeyboardInterrupt):
        _announce(listener)
        server.run(sockets=[listener])


def _announce(listener: socket.socket) -> None:
    """Say where the page is, and who can open it."""
    host, port = listener.getsockname()[:2]
    if not ip_address(host).is_loopback:
        print(f'Anybody who can reach this machine at {host} can use the page: it has no password.', file=sys.stderr)
    print(f'Open http://{f"[{host}]" if ":" in host else host}:{port} in a browser. Ctrl-C stops the page.', flush=True)


if __name__ == '__main__':
    main()
