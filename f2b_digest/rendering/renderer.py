"""Rendering templates. Only this package imports Jinja2, in `environment`.

Templates get only the digest's document (see f2b_digest.model.document), with hostile text escaped. They run in a
sandbox: a template folder may belong to somebody who may not run programs as the user of `f2b-digest send`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from difflib import get_close_matches
from functools import cached_property
from mmap import mmap
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any, TypeVar

from f2b_digest import isolation
from f2b_digest.errors import TemplateError
from f2b_digest.rendering import template_files
from f2b_digest.rendering.i18n import SOURCE, load_language
from f2b_digest.rendering.layout import MAIL, Layout, fold, indent_of
from f2b_digest.text.visible import visible

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

log = logging.getLogger(__name__)

RENDERING = 30.0
"""Timeout in seconds for custom templates per message; the largest digest needs 0.1 s."""
LARGEST = 4_000_000
"""Maximum characters of a rendered text; a mail has up to 80,000."""
LONGEST_NAME = 255
"""Maximum bytes of a template's name."""
BUILT_IN = "builtin/"
"""Prefix for a built-in template's name, so that a custom one of the same name can extend it."""

Rendered = TypeVar("Rendered")


class _Unusable(Exception):
    """A custom file cannot be used as a template."""


class Renderer:
    """Renders templates from the admin's folders, else the built-in ones.

    All files are read at start, so that it can render after dropping privileges.
    """

    def __init__(
        self,
        built_in: Path,
        *own: Path | None,
        also: Iterable[Path | None] = (),
        language: str = SOURCE,
        layout: Layout = MAIL,
    ) -> None:
        """Load the folder of the built-in templates, and the admin's, in order of precedence.

        `also` are folders for later calls of `preferring`. Unsupported languages fall back to English.
        """
        self._built_in = template_files.read(built_in)
        self._read = {path: template_files.read(path) for path in (*own, *also) if path}
        self._own = tuple(self._read[path] for path in own if path)
        self._broken: frozenset[str] = frozenset()
        self._language, self._layout = language, layout
        self._asked: mmap | None = None
        """Shared with the child of `apart`: the template being rendered."""
        load_language(language)

    @cached_property
    def _environment(self) -> "ImmutableSandboxedEnvironment":
        from f2b_digest.rendering.environment import environment  # noqa: PLC0415 - a day without news renders nothing

        return environment(self._source, self._language, self._layout)

    @property
    def folders(self) -> tuple[template_files.Folder, ...]:
        """The content of the admin's folders, of all reports."""
        return tuple(self._read.values())

    @property
    def built_in(self) -> frozenset[str]:
        """The names of the built-in templates."""
        return frozenset(self._built_in.texts)

    def apart(self, work: Callable[[], Rendered]) -> Rendered:
        """Call a function that renders; with custom templates, in a child with a deadline and a memory limit.

        A template that exceeds them counts as broken from then on. Raises TemplateError.
        """
        if not any(folder.texts.keys() - self._broken for folder in self._own):
            return work()
        assert self._environment  # loaded here, and not by each child
        with mmap(-1, LONGEST_NAME) as asked:
            self._asked = asked
            try:
                rendered: Rendered = isolation.run(work, seconds=RENDERING)
            except isolation.Stopped as stopped:
                name = asked[:].rstrip(b"\0").decode()
                self._give_up(name, str(stopped))
                raise TemplateError(name, f"{name or 'of your own'}: {stopped}") from None
            finally:
                self._asked = None
        return rendered

    def _give_up(self, name: str, reason: str) -> None:
        """Mark a template as broken for this process; "" or a built-in one: all custom ones."""
        guilty = [folder for folder in self._own if name in folder.texts][:1]
        for folder in guilty or self._own:
            folder.faults[name if guilty else "."] = reason

    def without(self, template: str) -> "Renderer | None":
        """Return a renderer with a built-in template instead of the custom one, or None if there is none.

        If the template is built-in, it includes a custom one: then all are replaced by built-in ones.
        """
        if not self._own or (template and template not in self._built_in.texts):
            return None
        readable = tuple(folder for folder in self._own if "." not in folder.faults)
        if readable != self._own:
            return self._but(_own=readable)
        its_own = any(template in folder.texts or folder.fault(template) for folder in self._own)
        if not its_own or template in self._broken:
            return self._but(_own=())
        return self._but(_broken=self._broken | {template})

    def preferring(self, folder: Path | None) -> "Renderer":
        """Return a renderer that searches one more folder first."""
        if folder is None:
            return self
        return self._but(_own=(self._read.get(folder) or template_files.read(folder), *self._own))

    def speaking(self, language: str) -> "Renderer":
        """Return a renderer of another language: "fr", "fr_FR.UTF-8"; English if there is no such catalogue."""
        return self._but(_language=language) if language != self._language else self

    def with_layout(self, layout: Layout) -> "Renderer":
        """Return a renderer for another screen."""
        return self._but(_layout=layout) if layout != self._layout else self

    def _but(self, **changed: Any) -> "Renderer":
        other = copy(self)
        vars(other).pop("_environment", None)
        vars(other).update(changed)
        return other

    def _source(self, name: str) -> str | None:
        """Return a template's text, or None if it does not exist. Raises _Unusable."""
        name = normpath(name)
        if name.startswith(BUILT_IN):
            return self._built_in.texts.get(name.removeprefix(BUILT_IN))
        for folder in self._own if name not in self._broken else ():
            fault = folder.fault(name)
            if fault:
                raise _Unusable(fault)
            if name in folder.texts:
                return folder.texts[name]
        return self._built_in.texts.get(name)

    def _is_own(self, name: str) -> bool:
        """Return whether a custom template of that name is used."""
        return name not in self._broken and any(name in folder.texts for folder in self._own)

    def _meant(self, name: str) -> str:
        """Return "did you mean …?" with a similar name, or ""."""
        close = get_close_matches(name, {*self.built_in, *(known for folder in self._own for known in folder.texts)}, 1)
        return f" (did you mean {close[0]}?)" if close else ""

    def render(self, names: Iterable[str], document: Mapping[str, Any]) -> dict[str, str]:
        """Return each template's text. Raises TemplateError, which names the template and its line."""
        harmless = visible(document)
        return {name: self._render(name, harmless) for name in names}

    def _render(self, name: str, document: Mapping[str, Any]) -> str:
        if self._asked:
            self._asked[:] = name.encode()[:LONGEST_NAME].ljust(LONGEST_NAME, b"\0")
        from jinja2 import TemplateNotFound, TemplateSyntaxError  # noqa: PLC0415 - see `_environment`

        try:
            text = self._environment.get_template(name).render(document)
        except _Unusable as error:
            raise TemplateError(name, str(error)) from None
        except TemplateSyntaxError as error:
            place = f", line {error.lineno}" if error.name == name else f" in {error.name}, line {error.lineno}"
            raise TemplateError(name, f"{name}{place}: {error.message}") from None
        except TemplateNotFound as error:
            missing = "no such template" if error.name == name else f"no template {error.name}"
            raise TemplateError(name, f"{name}: {missing}{self._meant(str(error.name))}") from None
        except MemoryError:
            raise TemplateError(name, f"{name}: needs more than {isolation.MEMORY >> 20} MB of memory") from None
        except Exception as error:  # unknown names, or anything: "{{ 1 / 0 }}"
            log.debug("template %s cannot be rendered", name, exc_info=True)
            raise TemplateError(name, f"{name}: {type(error).__name__}: {error}") from None
        if len(text) > LARGEST and self._is_own(name):  # one of ours is rendered smaller until it fits
            raise TemplateError(name, f"{name}: output exceeds {LARGEST:,} characters")
        width = self._layout.width
        if width is None or not name.endswith(".txt"):
            return text
        return "\n".join(fold(line, width, indent_of(line) + 4) for line in text.split("\n"))
