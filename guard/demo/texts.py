"""What customers and the support desk of the sample shop write. `{name} {email} {phone} {order}` are filled in."""

from random import Random

from guard.demo.people import Person, pick

_ORDER_NOTES = {
    "en": (
        "Please leave with {other} next door.",
        "Ring twice, the bell is quiet. {phone}",
        "Gift wrap please, no invoice in the parcel.",
        "Deliver after 5 pm.",
    ),
    "de": (
        "Bitte bei {other} im Erdgeschoss abgeben.",
        "Klingel defekt, bitte anrufen: {phone}",
        "Als Geschenk verpacken, ohne Rechnung.",
        "Zustellung erst ab 17 Uhr möglich.",
    ),
    "zh": ("请交给邻居{other}。", "送货前请打电话 {phone}", "请用礼品包装，不要放发票。", "下午五点以后送货。"),
}

_SUPPORT_NOTES = {
    "en": (
        "{name} called about order {order}: parcel arrived wet, replacement sent.",
        "Customer wants the invoice for order {order} sent to {email} instead of by post.",
        "Call back on {phone} after lunch, question about green tea.",
        "Refund for order {order} approved, money is on its way.",
        "Asked how to change the password; sent the link.",
        "{name} says {other} may pick up order {order} at the counter.",
        "Parcel lost by the carrier. New one sent, apology written.",
        "Wants to know which notebooks have dotted paper.",
    ),
    "de": (
        "{name} hat wegen Bestellung {order} angerufen: Paket war nass, Ersatz ist unterwegs.",
        "Rechnung zu Bestellung {order} bitte an {email} schicken, nicht per Post.",
        "Rückruf unter {phone} nach 14 Uhr, Frage zu Grüntee.",
        "Erstattung für Bestellung {order} freigegeben, Geld ist unterwegs.",
        "Passwort vergessen, Link verschickt.",
        "{name} sagt, {other} darf Bestellung {order} im Laden abholen.",
        "Paket beim Zusteller verloren, neues verschickt, entschuldigt.",
        "Möchte wissen, welche Hefte punktiertes Papier haben.",
    ),
    "zh": (
        "{name}来电，订单{order}的包裹受潮，已补发。",
        "客户要求把订单{order}的发票发到{email}。",
        "请下午回电{phone}，咨询绿茶。",
        "订单{order}已同意退款。",
        "忘记密码，已发送链接。",
        "{name}说{other}会到店领取订单{order}。",
        "包裹丢失，已重新发货并致歉。",
        "询问哪种笔记本是点阵纸。",
    ),
}

_KINDS = (
    "Notebook",
    "Sketchbook",
    "Fountain pen",
    "Brush pen",
    "Ink",
    "Letter paper",
    "Green tea",
    "Black tea",
    "Teapot",
)
_LOOKS = ("Lantern", "Harbour", "Willow", "Ember", "Slate", "Linen", "Meadow", "Frost", "Copper", "Paper Crane")
_SIZES = ("small", "large")


def products() -> list[tuple[str, str, str, int]]:
    """Return all (SKU, name, description, price in cents)."""
    things = [(kind, look, size) for kind in _KINDS for look in _LOOKS for size in _SIZES]
    return [
        (
            f"LL-{number:04d}",
            f"{look} {kind.lower()}, {size}",
            f"Our {look} series: {kind.lower()} in {size}.",
            390 + 35 * number,
        )
        for number, (kind, look, size) in enumerate(things, 1)
    ]


def order_note(rng: Random, person: Person, other: str) -> str:
    """Return what `person` asks of the carrier; one in two names `other` or a phone number."""
    return pick(rng, _ORDER_NOTES[person.language]).format(other=other, phone=person.phone)


def support_note(rng: Random, person: Person, other: str, order: int) -> str:
    """Return what the support desk wrote down about `person`; one in two names a person, e-mail or phone."""
    return pick(rng, _SUPPORT_NOTES[person.language]).format(
        name=person.full_name, email=person.email, phone=person.phone, other=other, order=order
    )
