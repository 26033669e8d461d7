"""The words schemas use for personal data, in English, German and Chinese (pinyin and Han).

Each alternative must stand at the end of a column's words, where English, German and Chinese put the head of a
compound: "home phone" is a phone, "phone type" is a type. `*` at the front takes German compounds ("Lieferadresse").
Umlauts are written out (ae oe ue ss), numbers at the end of a column are dropped before matching.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS: Final[dict[str, str]] = {
    # from the special to the general: the first that fits wins
    "card_secret": "cvv|cvv2|cvc|cvc2|card verification value|card security code|cvn|pruefziffer karte",
    "secret": (
        "password|passwd|pwd|passwort|kennwort|passphrase|password hash|passwordhash|pw hash|passhash"
        "|passwort hash|password digest|encrypted password|hashed password|password salt|salt|api key|apikey"
        "|secret|secret key|access token|refresh token|reset token|auth token|session token|otp secret"
        "|totp secret|pin code|mima"
    ),
    "email": (
        "email|e mail|emails|mail|mail address|email address|e mail address|email addr|emailaddress"
        "|mailadresse|email adresse|e mail adresse|emailadresse|useremail|customeremail|youxiang"
        "|dianziyoujian|dianziyouxiang"
    ),
    "ip_address": ("ip|ip address|ip addr|ipaddress|ip adresse|ipadresse|ipv4|ipv6|remote addr|remote address|ipaddr"),
    "device": (
        "user agent|useragent|device id|deviceid|imei|mac|mac address|mac adresse|idfa|gaid"
        "|device fingerprint|browser fingerprint|session id|sessionid|cookie|cookie id"
    ),
    "national_id": (
        "ssn|social security|social security (number|no)|national id|national identifier|id card|idcard"
        "|id card (number|no)|identity (number|card|document)|identity card (number|no)|passport"
        "|passport (number|no|nr)|passportno|personalausweis|*ausweisnummer|reisepass|*reisepassnummer"
        "|sozialversicherungsnummer|sv nummer|svnr|nif|dni|nie|pesel|nino|codice fiscale|shenfenzheng"
        "|shenfenzhenghao|shenfenzhenghaoma|sfz|sfzh|zhengjianhao|huzhao|driving licen[cs]e( number| no)?"
        "|drivers? licen[cs]e( number| no)?|fuehrerschein|fuehrerscheinnummer"
    ),
    "tax_id": (
        "vat|vat (id|number|no|nr|code)|vatid|vatnumber|u st id|u st id nr|ust id|ust id nr|ustid|ustidnr"
        "|umsatzsteuer id|steuernummer|steuer nr|steuer id|steuerid|steueridentifikationsnummer|tax id"
        "|tax (number|no|code)|taxid|tin|nashuihao|shuihao"
    ),
    "payment": (
        "(card|cc|account|iban|karte) (last|tail)|card last four|last four|last 4|card suffix"
        "|masked (card|pan|iban)|(card|payment) token|payment method token"
        "|card (exp|expiry|expiration)( date| month| year)?|payer id"
    ),
    "card": (
        "card (number|no|num|nr)|cardnumber|cardno|cc (number|no|num)|ccnumber|credit card|creditcard"
        "|credit card (number|no)|creditcardnumber|pan|kreditkarte|kreditkarten(nummer|nr)|kreditkartennummer"
        "|kartennummer|debit card( number)?|yinhangka|yinhangkahao|xinyongka|xinyongkahao"
    ),
    "bank_account": (
        "iban|iban (number|no|nr)|bank account|bank account (number|no)|account (number|no)|accountnumber"
        "|kontonummer|konto nr|kontonr|bankkonto|bankverbindung|sort code|routing number|yinhangzhanghao"
        "|yinhangzhanghu"
    ),
    "special": (
        "health|health (status|data|condition)|diagnosis|disease|disability|blood (type|group)|religion"
        "|confession|ethnicity|race|political (opinion|party)|trade union|sexual orientation|gesundheit"
        "|krankheit|diagnose|konfession|blutgruppe|behinderung|zongjiao|minzu|jiankang|allergy|allergies"
    ),
    "birth_date": (
        "birth date|birthdate|birthday|birth day|date of birth|dateofbirth|dob|born|born on|birth year"
        "|year of birth|geburtsdatum|geburtstag|geburtsjahr|geb datum|gebdat|shengri|chushengriqi|birth"
    ),
    "gender": ("gender|sex|geschlecht|anrede|salutation|title of courtesy|courtesy title|honorific|xingbie|chenghu"),
    "social": (
        "twitter|facebook|instagram|linkedin|wechat|wechat id|weixin|weixinhao|qq|qq (number|no)|qqhao"
        "|telegram|skype|tiktok|(twitter|social|telegram|skype|instagram) (handle|name|id)"
    ),
    "phone": (
        "phone|phones|telephone|tel|mobile|cell|cellphone|cell phone|mobilephone|homephone|workphone"
        "|phonenumber|msisdn|fax|telefax|whatsapp"
        "|(phone|telephone|tel|mobile|cell|cellphone|fax|whatsapp) (number|no|num|nr)|*telefon|*telefonnummer"
        "|telefonnr|telefon (nr|nummer)|mobil|*mobilnummer|mobiltelefon|mobil (nr|nummer)|*handy|*handynummer"
        "|*rufnummer|*faxnummer|fax nummer|*shouji|*shoujihao|*shoujihaoma|*dianhua|*dianhuahaoma|chuanzhen"
        "|zuoji|phone extension|durchwahl"
    ),
    "username": (
        "username|user name|login|login name|loginname|account name|screen name|benutzername|nutzername"
        "|nickname|nick|nick name|yonghuming|denglum?ing|nicheng|handle"
    ),
    "author": "composer|author|artist name|author name|performer|lyricist|kuenstler|autor|komponist|zuozhe",
    "company": (
        "company|company name|companyname|firma|firmenname|firmenbezeichnung|organi[sz]ation"
        "|organi[sz]ation name|employer|business name|unternehmen|gongsi|gongsimingcheng|brand name"
        "|vendor name|supplier name|legal name"
    ),
    "name": (
        "(first|last|full|given|family|middle|maiden|birth|real|contact|customer|client|person|employee|staff|member"
        "|holder|card holder|cardholder|account holder|recipient|receiver|sender|buyer|payer|payee|billing|shipping"
        "|delivery|ship|bill|ship to|bill to|guest|patient|student|passenger|signer|sur|fore)"
        "( (first|last|full|given|family|middle))? names?"
        "|firstname|lastname|fullname|middlename|givenname|familyname|surname|forename|fname|lname|realname"
        "|contactname|customername|cardholder|card holder|account holder|contact person|recipient|attn"
        "|*vorname|*nachname|familienname|zuname|geburtsname|kundenname|rufname|*ansprechpartner|*empfaenger"
        "|kontoinhaber|karteninhaber|*xingming|mingzi|lianxiren|shouhuoren|shoujianren|kehumingcheng"
    ),
    "postcode": (
        "zip|zipcode|zip code|postcode|post code|postal code|postalcode|plz|*postleitzahl|youbian"
        "|youzhengbianma|zip plus"
    ),
    "city": (
        "city|town|village|cityname|city name|ort|stadt|wohnort|*wohnort|lieferort|rechnungsort|chengshi|locality"
    ),
    "region": (
        "state|province|region|county|district|bundesland|kanton|state province|state or province|region name"
        "|administrative area|shengfen|diqu|quxian"
    ),
    "country": (
        "country|country (code|name|iso)|countrycode|nation|land|lieferland|rechnungsland|laendercode"
        "|land (code|iso)|guojia|guojiadaima"
    ),
    "address": (
        "address|addresses|addr|address line|addr line|address (street|text)|street|streets"
        "|street (name|address|line|number|no)|streetname|streetaddress|house (number|no|nr)|housenumber"
        "|apartment|apartment number|apt|*adresse|*anschrift|*strasse|strasse (nr|hausnummer)|hausnummer"
        "|haus nr|hausnr|adresszusatz|adress zusatz|*dizhi|jiedao|menpaihao|po box|postfach"
    ),
    "location": (
        "latitude|longitude|lat|lng|lon|gps|geolocation|geo (point|location|position)|coordinates|breitengrad"
        "|laengengrad"
    ),
    "employment": (
        "salary|wage|income|gehalt|lohn|hire date|hiredate|hired|hired (at|on)|einstellungsdatum|xinzi|gongzi"
        "|termination date"
    ),
    "job": ("job|job title|jobtitle|contact title|occupation|profession|beruf|department|abteilung|zhiwei|zhiye"),
    "photo": (
        "photo|photos|avatar|portrait|picture|profile (image|picture|photo)|foto|passbild"
        "|photo (path|url|file)|avatar (url|path)|touxiang|zhaopian"
    ),
    "website": "website|web site|home page|homepage|web page|personal url|webseite|web adresse|blog",
    "preference": ("language|locale|preferred language|sprache|lang|time zone|timezone|newsletter|marketing|interests"),
    "note": (
        "note|notes|comment|comments|remark|remarks|message|messages|feedback|review|review text|memo|inquiry"
        "|complaint|body|content|subject|free text|gift message|instructions|delivery instructions|note text"
        "|notiz|notizen|*bemerkung|*bemerkungen|*kommentar|*nachricht|anmerkung|anmerkungen|betreff|beizhu"
        "|liuyan|pinglun|fankui|neirong"
    ),
}
"""Category -> alternatives in regular-expression syntax, words separated by one blank."""

HAN: Final[dict[str, str]] = {
    "secret": "密码|口令",
    "email": "邮箱|邮箱地址|电子邮件|电子邮箱|邮件地址|电邮",
    "ip_address": "IP地址|IP",
    "national_id": "身份证|身份证号|身份证号码|证件号|证件号码|护照|护照号",
    "tax_id": "税号|纳税人识别号",
    "card": "卡号|信用卡号|银行卡号|银行卡",
    "bank_account": "银行账号|银行账户|收款账号",
    "special": "宗教|民族|健康状况|病史",
    "birth_date": "生日|出生日期|出生年月",
    "gender": "性别|称呼",
    "social": "微信|微信号|QQ|QQ号",
    "phone": "手机|手机号|手机号码|电话|电话号码|联系电话|联系方式|传真|座机",
    "username": "用户名|登录名|账号|昵称",
    "company": "公司|公司名称|单位|单位名称",
    "name": "姓名|姓|名|名字|真实姓名|联系人|收货人|收件人|客户名称|客户姓名",
    "postcode": "邮编|邮政编码",
    "city": "城市|市",
    "region": "省|省份|区|区县|地区",
    "country": "国家",
    "address": "地址|详细地址|收货地址|街道|住址|门牌号",
    "job": "职位|职业|部门",
    "photo": "头像|照片",
    "note": "备注|留言|评论|反馈|内容|说明",
}
"""The same in Han characters; they too must stand at the end of the name."""

PEOPLE: Final = _words(
    """
    customer client user person people contact member subscriber employee staff guest visitor patient student buyer
    shopper recipient lead prospect profile supplier vendor seller participant passenger driver applicant candidate
    kunde kunden benutzer nutzer mitarbeiter lieferant lieferanten empfaenger ansprechpartner personen mitglied
    mitglieder teilnehmer kontakt kontakte interessent interessenten abonnent abonnenten kehu yonghu huiyuan guke
    yuangong lianxiren gongyingshang
    """
)
"""Tables of this name hold one person (or a firm's contact) in each row. Singular, or German plural."""

PEOPLE_HAN: Final = "客户|用户|会员|顾客|员工|联系人|客户表|用户表|会员表|供应商"

FIRMS: Final = _words(
    """
    supplier vendor seller lieferant lieferanten gongyingshang provider
    """
)
"""Tables of people whose rows are firms' contacts: what refers to them is not about a person."""

OF_PEOPLE: Final = _words(
    """
    address addresse detail data info information profile preference note adresse adressen anschrift
    """
)
"""Tables such as "customer_addresses": about people when another of their words names people."""

TAXED: Final = _words(
    """
    order invoice payment refund credit receipt transaction billing purchase sale bill bestellung bestellungen
    auftrag auftraege rechnung rechnungen zahlung zahlungen gutschrift gutschriften beleg belege dingdan fapiao
    fukuan zhifu
    """
)
"""Rows of these tables are business records that tax law keeps (AO § 147, HGB § 257)."""

TAXED_HAN: Final = "订单|发票|付款|支付"

CODES: Final = _words(
    """
    status type kind currency sku ean gtin isbn code reference ref slug version method carrier channel source role
    level segment category color colour size unit mode priority provider gateway tracking uuid guid hash checksum
    etag barcode no nr number nummer num hao plan scope format extension mime encoding symbol label tag tags topic
    reason stage step state phase waehrung art typ kategorie farbe groesse einheit zahlart versandart rolle stufe
    zhuangtai leixing
    """
)
"""Heads of columns that hold the shop's own words, not a person's."""

PROSE: Final = _words(
    """
    title description desc headline caption summary bezeichnung beschreibung titel biaoti miaoshu
    """
)
"""Heads of columns that describe things, as long as the table is not about a person."""

NUMBERS_MAY_BE: Final = _words(
    """
    phone birth_date national_id tax_id card card_secret bank_account postcode employment location ip_address
    """
)
"""Categories a column of numbers may hold."""

STAND_ALONE: Final = _words(
    """
    email phone national_id tax_id card bank_account name username
    """
)
"""Categories that stay what they are even where the column is a key."""

ENDINGS: Final = _words("text value raw str string normalized normalised norm enc encrypted plain clear de en zh")
"""Last words that leave the meaning as it is: `email_normalized` is an e-mail address."""

WHEN: Final = _words(
    """
    at on date time datetime timestamp created updated modified changed since until seen login expires datum zeit
    zeitpunkt angelegt geaendert riqi shijian 日期 时间
    """
)
"""Last words of columns that say when something happened to a row."""
