"""Languages: every catalogue is whole, numbers and times read as they should, and a hostile value stays a value."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from f2b_digest import config, delivery, resources
from f2b_digest.channels.email import Email
from f2b_digest.channels.free_mobile import to_gsm_7
from f2b_digest.cli.environment import local_language
from f2b_digest.cli.output import renderer_for
from f2b_digest.model.document import document
from f2b_digest.model.message import Stamp
from f2b_digest.rendering import i18n
from f2b_digest.rendering.i18n import Language, language_of, load_language
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.text.visible import visible
from tests import ROOT
from tests.support import samples
from tests.tools import catalogues
from tests.tools.readme import sample_digest

FRENCH, GERMAN, ENGLISH = load_language("fr"), load_language("de"), load_language("en")
MORNING, NIGHT = datetime(2026, 11, 19), datetime(2026, 11, 18, 23, 40)  # noqa: DTZ001 - of no zone in particular
HOSTILE = ["%(host)s", "%s", "%", "{{ 7 * 7 }}", "{host}", "<b>&", "\\1"]


# ---- catalogues


@pytest.mark.parametrize("language", i18n.known()[1:])
def test_no_catalogue_lacks_a_sentence(language: str) -> None:
    """Nor has it one too much, a fuzzy one, or one that lost a value; its file is as the tool writes it."""
    source = catalogues.said()
    assert list(catalogues.faults(catalogues.read(language), source)) == []
    file = i18n.FOLDER / language / i18n.CATALOGUE
    assert file.read_text() == catalogues.updated(language, source), "run python -m tests.tools.catalogues"


def planted(translated: Callable[[Catalog], object]) -> list[str]:
    """Return the faults of a French catalogue of two sentences, after something was done to it."""
    source, catalogue = Catalog(), Catalog("de")
    source.add(("%(num)s ban on %(host)s", "%(num)s bans on %(host)s"))
    source.add("to %(end)s")
    catalogue.add(("%(num)s ban on %(host)s", "%(num)s bans on %(host)s"), ("%(num)s à %(host)s", "%(num)s à %(host)s"))
    catalogue.add("to %(end)s", "à %(end)s")
    translated(catalogue)
    return list(catalogues.faults(catalogue, source))


@pytest.mark.parametrize(
    ("done", "fault"),
    [
        (lambda catalogue: catalogue.delete("to %(end)s"), "missing: to %(end)s"),
        (lambda catalogue: single(catalogue, ""), "missing: to %(end)s"),
        (lambda catalogue: single(catalogue, "à %(end)s", "fuzzy"), "fuzzy: to %(end)s"),
        (lambda catalogue: catalogue.add("from %(start)s", "de %(start)s"), "nobody says it: from %(start)s"),
        (lambda catalogue: single(catalogue, "à %(fin)s"), "other places for values: à %(fin)s"),
        (lambda catalogue: single(catalogue, "à"), "other places for values: à"),
        (lambda catalogue: single(catalogue, "à %(end)s %"), "other places for values: à %(end)s %"),
        (lambda catalogue: single(catalogue, "à %(end)d"), "other places for values: à %(end)d"),
        (lambda catalogue: plural(catalogue, "%(num)s", "%(num)s à %(host)s"), "other places for values: %(num)s"),
        (lambda catalogue: plural(catalogue, "%(num)s à %(host)s", "%(host)s"), "other places for values: %(host)s"),
        (lambda catalogue: plural(catalogue, "%(num)s à %(host)s", ""), "missing: %(num)s ban on %(host)s"),
        (lambda catalogue: plural(catalogue, "%(num)s à %(host)s"), "not 2 forms: %(num)s ban on %(host)s"),
    ],
)
def test_a_planted_fault_is_found(done: Callable[[Catalog], object], fault: str) -> None:
    """Each kind of mistake of a translator is named, and only that."""
    assert planted(lambda catalogue: None) == []
    assert planted(done) == [fault]


def test_a_form_may_leave_out_what_a_form_of_english_leaves_out() -> None:
    """No count in "Until 08:12", in no language; a value that no English form has, or that is lost, is a fault."""
    source, forms = Catalog(), ("Until %(until)s.", "%(num)s bans, until %(until)s.")
    source.add(forms)
    for one, wrong in (("Fin : %(until)s.", []), ("Fin.", ["other places for values: Fin."])):
        catalogue = Catalog("de")
        catalogue.add(forms, (one, "%(num)s, fin : %(until)s."))
        assert list(catalogues.faults(catalogue, source)) == wrong


def single(catalogue: Catalog, text: str, *flags: str) -> None:
    """Translate the sentence that has no plural."""
    message = catalogue["to %(end)s"]
    message.string = text
    message.flags |= set(flags)


def plural(catalogue: Catalog, *forms: str) -> None:
    """Translate the sentence that has a plural."""
    catalogue.get("%(num)s ban on %(host)s").string = forms  # type: ignore[union-attr]


def test_sentences_of_templates_are_found(tmp_path: Path) -> None:
    """All ways in which a template can say something are extracted, with the white space that it is rendered with."""
    (tmp_path / "email").mkdir()
    (tmp_path / "email/body.txt").write_text(
        '{{ _("one") }}{{ gettext("two %(x)s", x=1) }}{{ ngettext("%(num)s ban", "%(num)s bans", n) }}\n'
        '{{ pgettext("c", "three") }}{{ npgettext("c", "four", "%(num)s fours", n) }}\n'
        "{# NOTE: for translators #}\n"
        "{% trans %}five {{ host }}{% endtrans %}\n"
        "{% trans count=n %}{{ count }} six{% pluralize %}{{ count }} sixes{% endtrans %}\n"
    )
    found = {(message.context, message.id) for message in catalogues.said(tmp_path) if message.id}
    assert found >= {
        (None, "one"), (None, "two %(x)s"), (None, ("%(num)s ban", "%(num)s bans")), ("c", "three"),
        ("c", ("four", "%(num)s fours")), (None, "five %(host)s"), (None, ("%(count)s six", "%(count)s sixes")),
    }  # fmt: skip
    assert catalogues.said(tmp_path)["five %(host)s"].auto_comments == ["for translators"]


def test_the_tool_keeps_translations_and_drops_what_nobody_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Changing a sentence keeps the others, and the header as the translator wrote it."""
    monkeypatch.setattr(i18n, "FOLDER", tmp_path)
    (tmp_path / "fr").mkdir()
    head = '# By Zoé.\nmsgid ""\nmsgstr ""\n"Language: fr\\n"\n"Plural-Forms: nplurals=2; plural=(n > 1);\\n"\n'
    old = '\nmsgid "kept"\nmsgstr "gardé"\n\nmsgid "gone"\nmsgstr "parti"\n'
    (tmp_path / "fr" / i18n.CATALOGUE).write_text(head + old)
    source = Catalog()
    source.add("new")
    source.add("kept")
    text = catalogues.updated("fr", source)
    assert text.startswith(head)
    assert 'msgid "kept"\nmsgstr "gardé"' in text
    assert 'msgid "new"\nmsgstr ""' in text
    assert "gone" not in text


@pytest.mark.slow
def test_catalogues_are_in_the_wheel(tmp_path: Path) -> None:
    """Who installs the package has every language, and no compiled file is needed."""
    root = ROOT
    subprocess.run([sys.executable, "-m", "build", "-q", "--wheel", "--outdir", tmp_path, root], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"f2b_digest/rendering/locale/{language}/{i18n.CATALOGUE}" for language in i18n.known()[1:]} <= names


# ---- which language


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("fr", "fr"), ("fr_FR", "fr"), ("fr-CA", "fr"), ("fr_FR.UTF-8", "fr"), ("fr_FR.ISO-8859-15@euro", "fr"),
        ("FR", "fr"), ("de_AT.UTF-8", "de"), ("de-CH", "de"),
        ("en", "en"), ("en_GB.UTF-8", "en"), ("C", "en"), ("C.UTF-8", "en"), ("POSIX", "en"), ("", "en"),
        ("xx", None), ("french", None), ("../fr", None), ("\0", None), ("zh_Hant_TW", None),
    ],
)  # fmt: skip
def test_a_language_is_known_by_its_usual_names(name: str, language: str | None) -> None:
    """As a system, a page and a person write it; what there is no catalogue for is English."""
    assert language_of(name) == language
    assert load_language(name).code == (language or "en")


@pytest.mark.parametrize("text", ["no catalogue", 'msgid "a"\nmsgstr[0] "', '"Plural-Forms: nplurals=x"', "\xff\0"])
def test_a_broken_catalogue_is_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """A language is never worth a digest."""
    monkeypatch.setattr(i18n, "FOLDER", tmp_path)
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / i18n.CATALOGUE).write_text(text, encoding="latin-1")
    i18n._load_language.cache_clear()
    try:
        assert load_language("de").duration(86400) == "1 day"
    finally:
        i18n._load_language.cache_clear()


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "en_US", "LC_MESSAGES": "en_US", "LC_ALL": "fr_FR"}, "fr"),
        ({"LANG": "en_US", "LC_ALL": "", "LANGUAGE": "xx:fr:en"}, "fr"),
        ({"LANG": "fr_FR", "LANGUAGE": "xx:en:fr"}, "en"),
        ({"LANG": "C", "LANGUAGE": "fr"}, "en"),
        ({"LANG": "xx_XX.UTF-8"}, "en"),
    ],
)
def test_the_systems_language_is_found_as_gettext_finds_it(environment: dict[str, str], language: str) -> None:
    """LANGUAGE first, unless the locale is C; then LC_ALL, LC_MESSAGES, LANG."""
    assert local_language(environment) == language


def test_a_report_has_its_own_language(tmp_path: Path) -> None:
    """The report's, else the configuration's, else the system's."""
    file = tmp_path / "config.toml"
    file.write_text('language = "fr"\n[reports.daily]\n[reports.weekly]\nlanguage = "en_GB"\n')
    (tmp_path / "own/email").mkdir(parents=True)
    (tmp_path / "own/email/body.txt").write_text("{{ language }} {{ 86400 | duration }}")
    loaded = config.load(file, host="web1", timezone="UTC")
    assert loaded.warnings == ()
    said = {name: preview(renderer_for(loaded, name).preferring(tmp_path / "own")) for name in loaded.reports}
    assert said == {"daily": "fr 1 jour", "weekly": "en 1 day"}
    file.write_text("[reports.daily]\n")
    system = renderer_for(config.load(file, host="web1", timezone="UTC", language="fr"), "daily")
    assert preview(system.preferring(tmp_path / "own")) == "fr 1 jour"


def preview(renderer: Renderer) -> str:
    """Return an own text of the email."""
    return renderer.render(["email/body.txt"], {"notes": (), "undelivered": ()})["email/body.txt"]


def test_an_unknown_language_is_warned_of(tmp_path: Path) -> None:
    """Nothing stops, and the line says what there is."""
    file = tmp_path / "config.toml"
    file.write_text('language = "xx"\n[reports.daily]\nlanguage = "kling\\non"\n[reports.weekly]\nlanguage = "fr"\n')
    loaded = config.load(file, host="web1", timezone="UTC", language="yy")
    assert loaded.warnings == (
        "language: 'xx' is not supported (known: en, de, fr); using English",
        "reports.daily.language: 'kling\\non' is not supported (known: en, de, fr); using English",
    )


def test_english_loads_no_catalogue() -> None:
    """A server in English does not pay for the other languages."""
    code = (
        "import sys; from f2b_digest.rendering.i18n import load_language; load_language('en').duration(5);"
        "assert not [name for name in sys.modules if name.startswith('babel.messages')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- counts, times, places


@pytest.mark.parametrize(
    ("said", "english", "french"),
    [
        (lambda lang: lang.number(1234567), "1,234,567", "1\u202f234\u202f567"),
        (lambda lang: lang.number(2.5), "2.5", "2,5"),
        (lambda lang: lang.number(3.0), "3", "3"),
        (lambda lang: lang.duration(151200), "1 day 18 h", "1 jour 18 h"),
        (lambda lang: lang.duration(600), "10 min", "10 min"),
        (lambda lang: lang.duration(1209600), "2 weeks", "2 semaines"),
        (lambda lang: lang.duration(604800 * 1500), "1,500 weeks", "1\u202f500 semaines"),
        (lambda lang: lang.duration(0), "0 s", "0 s"),
        (lambda lang: lang.duration(86400.0), "1 day", "1 jour"),
        (lambda lang: lang.duration(-1), "permanent", "permanente"),
        (lambda lang: lang.duration(None), "unknown", "inconnue"),
        (lambda lang: lang.duration(-5), "unknown", "inconnue"),
        (lambda lang: lang.day(MORNING), "Thu 19 Nov 2026 00:00", "jeu. 19 nov. 2026 à 00:00"),
        (lambda lang: lang.date(MORNING), "19 Nov 2026", "19 nov. 2026"),
        (lambda lang: lang.date(MORNING, NIGHT), "19 Nov", "19 nov."),
        (lambda lang: lang.clock(NIGHT, NIGHT), "23:40", "23:40"),
        (lambda lang: lang.clock(NIGHT, MORNING), "18 Nov 23:40", "18 nov. à 23:40"),
        (lambda lang: lang.clock(NIGHT, MORNING.replace(year=2027)), "18 Nov 2026 23:40", "18 nov. 2026 à 23:40"),
        (lambda lang: lang.span(NIGHT, NIGHT.replace(second=59), MORNING), "18 Nov 23:40", "18 nov. à 23:40"),
        (lambda lang: lang.span(NIGHT, NIGHT.replace(minute=45), NIGHT), "23:40 – 23:45", "23:40 – 23:45"),
        (lambda lang: lang.span(NIGHT, MORNING, MORNING), "18 Nov 23:40 – 19 Nov 00:00",
         "18 nov. à 23:40 – 19 nov. à 00:00"),
        (lambda lang: lang.weekday(0), "Mon", "lun."),
        (lambda lang: lang.weekday(MORNING), "Thu", "jeu."),
        (lambda lang: lang.territory("DE"), "Germany", "Allemagne"),
        (lambda lang: lang.territory("de"), "Germany", "Allemagne"),
        (lambda lang: lang.territory("Q9"), "Q9", "Q9"),
        (lambda lang: lang.territory(None), "", ""),
        (lambda lang: lang.list_of(["a", "b", "c"]), "a, b and c", "a, b et c"),
        (lambda lang: lang.list_of(["%(last)s", "%"]), "%(last)s and %", "%(last)s et %"),
        (lambda lang: lang.list_of(["a"]), "a", "a"),
        (lambda lang: lang.list_of([]), "", ""),
    ],
)  # fmt: skip
def test_counts_times_and_places_read_as_in_the_language(
    said: Callable[[Language], str], english: str, french: str
) -> None:
    """In English as before there was any other language; in French as in a newspaper, the clock of 24 hours."""
    assert said(ENGLISH) == english
    assert said(FRENCH) == french


def test_german_numbers_and_times_read_as_in_german() -> None:
    """A point between thousands, a day with its point, and the clock of 24 hours."""
    assert GERMAN.number(1234567) == "1.234.567"
    assert GERMAN.percent(0.24) == "+24\u00a0%"
    assert [GERMAN.duration(seconds) for seconds in (151200, 1209600, -1)] == ["1 Tag 18 Std.", "2 Wochen", "dauerhaft"]
    assert GERMAN.day(MORNING) == "Do. 19. Nov. 2026 00:00"
    assert GERMAN.span(NIGHT, MORNING, MORNING) == "18. Nov. 23:40 – 19. Nov. 00:00"
    assert GERMAN.territory("FR") == "Frankreich"
    assert GERMAN.list_of(["a", "b", "c"]) == "a, b und c"
    assert [GERMAN.ngettext("%(num)s ban", "%(num)s bans", n) for n in (0, 1, 2)] == [
        "%(num)s Bans", "%(num)s Ban", "%(num)s Bans",
    ]  # fmt: skip


def test_the_plural_is_the_languages() -> None:
    """None are many in English, one in French."""
    assert [ENGLISH.ngettext("one", "many", n) for n in (0, 0.5, 1, 1.0, 1.5, 2)] == [
        "many", "many", "one", "one", "many", "many",
    ]  # fmt: skip
    days = ("%(num)s day", "%(num)s days")
    index = [FRENCH._translations.plural(FRENCH._whole(n)) for n in (0, 1, 1.5, 2)]  # type: ignore[attr-defined]
    assert index == [0, 0, 0, 1]
    assert FRENCH.ngettext(*days, 3) == "%(num)s jours"


def test_french_numbers_can_be_read_in_an_sms_and_in_a_subject() -> None:
    """The narrow space between thousands is a space where there is no such thing, and never an escape."""
    number = FRENCH.number(1234567)
    assert to_gsm_7(number) == "1 234 567"
    assert visible(number) == number


# ---- sentences


def rendered(source: str, folder: Path, *, name: str = "a.txt", language: str = "fr", **values: object) -> str:
    """Return what a template says."""
    (folder / name).write_text(source)
    return Renderer(folder, language=language).render([name], {"notes": (), "undelivered": (), **values})[name]


def test_a_count_in_a_sentence_is_written_as_in_the_language(tmp_path: Path) -> None:
    """In each way of saying it; what is given as text stays as it is."""
    say = '{{ ngettext("%(num)s day", "%(num)s days", n) }}'
    assert rendered(say, tmp_path, n=1234) == "1\u202f234 jours"
    assert rendered(say, tmp_path, n=1234, language="en") == "1,234 days"
    assert rendered(say.replace("n)", 'n, num="many")'), tmp_path, n=1234) == "many jours"
    assert rendered('{{ _("%(a)s of %(b)s", a=1500, b=true) }}', tmp_path, language="en") == "1,500 of True"
    trans = "{% trans count=n %}{{ count }} ban{% pluralize %}{{ count }} bans{% endtrans %}"
    assert rendered(trans, tmp_path, n=1234, language="en") == "1,234 bans"
    assert rendered(trans, tmp_path, n=1, language="en") == "1 ban"
    assert rendered('{{ pgettext("ban time", "permanent") }}', tmp_path) == "permanente"
    assert rendered('{{ npgettext("x", "%(num)s a", "%(num)s b", 2) }}', tmp_path) == "2 b"


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_in_a_sentence_stays_text(value: str, tmp_path: Path) -> None:
    """A name is put in once, and never read as a place for another value, or as a template."""
    say = '{{ _("%(user)s on %(host)s", user=user, host="web1") }}'
    assert rendered(say, tmp_path, user=value) == f"{value} on web1"
    say = '{{ ngettext("%(user)s: %(num)s", "%(user)s: %(num)s!", 2, user=user) }}{{ [user, user] | listed }}'
    assert rendered(say, tmp_path, user=value) == f"{value}: 2!{value} et {value}"
    assert rendered("{% trans %}for {{ user }}{% endtrans %}", tmp_path, user=value) == f"for {value}"


@pytest.mark.parametrize("value", ["<script>&\"'", "%(host)s<b>"])
def test_a_hostile_value_is_escaped_on_a_page_and_the_sentence_is_not(value: str, tmp_path: Path) -> None:
    """What an attacker chose adds no element; what the catalogue says, and what was escaped already, stays."""
    say = (
        '{{ _("d\'accord & %(user)s", user=user) }}|{{ ngettext("%(user)s", "%(user)s", 2, user=user) }}|'
        "{% trans %}{{ user }}{% endtrans %}|{{ [user, user | nolink] | listed }}"
    )
    page = rendered(say, tmp_path, name="a.html", user=value)
    safe = page.split("|")[1]
    assert "<" not in page
    assert "&lt;" in safe
    assert "&amp;lt;" not in page
    assert page == f"d'accord & {safe}|{safe}|{safe}|{safe} et {safe}"


def test_the_digest_goes_out_in_every_language() -> None:
    """Each built-in template of the sample week is rendered, without an English number, day or month."""
    digest = sample_digest()
    channel = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})
    stamp = Stamp("0" * 32, "weekly", "mail", digest.host, digest.end.timestamp(), digest.totals.bans)
    renderer = Renderer(resources.folder("templates"))
    for language in i18n.known()[1:]:
        speaking = renderer.speaking(language)
        content, noted = delivery.fit(channel.needs, digest, speaking, lambda content: channel.fits(content, stamp))
        assert noted.notes == ()
        assert load_language(language).weekday(digest.start) in content.parts["email/body.txt"]


ENGLISH_WORDS = re.compile(
    r"\b(and|until|usual|nothing|period|known|new|tried|banned|address(es)?|needs?|failures?|more|delivered|"
    r"delivery|digests?|recorded|stopped|since|names?|where|when|unknown|advice|campaigns|the|of|with)\b",
    re.IGNORECASE,
)
ALSO_GERMAN = {"digest", "digests"}
OTHERS_WORDS = re.compile(
    r"^ *> .*(\n {4}\S.*)*|^.* : journal : .*|^.*: Log: .*"
    r"|f2b-digest( (find|show|history|resend|status|check)\b.*)?|IP Geolocation by .*",
    re.MULTILINE,
)
"""Log lines, which fold in the mail's text; the product's name; a licence."""


def said_in(language: str) -> Iterator[str]:
    """Yield what the texts say of each fact and each advice there is, without what others wrote."""
    renderer = Renderer(resources.folder("templates"), language=language)
    names = ("email/subject.txt", "email/body.txt", "ntfy/message.txt", "free-mobile/sms.txt", "syslog/lines.txt")
    facts = samples.every_fact()
    for digest in (
        samples.telling(), samples.telling_week(), samples.quiet(),
        *(replace(samples.telling(), facts=(fact,), advice=samples.every_advice()) for fact in facts),
    ):  # fmt: skip
        for text in renderer.render(names, document(digest)).values():
            yield OTHERS_WORDS.sub("", text)


@pytest.mark.parametrize("language", ["fr", "de"])
def test_no_english_word_is_left(language: str) -> None:
    """Neither in a whole sentence nor glued to one; names, log lines and a server's words are what they are."""
    found = {word.group().lower() for text in said_in(language) for word in ENGLISH_WORDS.finditer(text)}
    assert found - ALSO_GERMAN == set() if language == "de" else found == set()
    assert any(ENGLISH_WORDS.search(text) for text in said_in("en"))


@pytest.mark.slow
def test_french_puts_a_narrow_space_before_its_signs() -> None:
    """A colon, a semicolon and a question mark never begin a line."""
    bare = re.compile(r".*[\w)] ?[;?](?:\s|$)|.*\w :(?:\s|$)", re.MULTILINE)
    assert [found for text in said_in("fr") for found in bare.findall(text)] == []


def test_a_catalogue_is_read_quickly() -> None:
    """Every send in another language reads one: far less than a tenth of a second."""
    code = (
        "import time; from f2b_digest.rendering import i18n; begin = time.process_time(); i18n.load_language('fr');"
        "print(time.process_time() - begin)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) < 0.5  # seconds; 0.02 where nothing else runs


@pytest.mark.parametrize("language", i18n.known())
@pytest.mark.parametrize(
    ("heading", "most"),
    [("Worst addresses", 19), ("Coordinated attacks", 40), ("Bans", 9), ("Usual", 9), ("Change", 8), ("Addresses", 10)],
)
def test_headings_of_the_mails_tables_fit(language: str, heading: str, most: int) -> None:
    """What is longer is cut, or pushes the columns apart."""
    assert len(load_language(language).gettext(heading)) <= most
