"""Wordings for the triage example: what customers write, as small grammars.

`[a|b]` is a choice (nesting allowed); `{slot}` is filled by data.py. Text outside slots may get typos, slot
values never do. `{thing}` becomes "the <product>", or a pronoun when the message names no product; `{ref}`
becomes an order reference, or nothing.

CORE_TRAIN is what both training stages see. CORE_NEW occurs in held-out cases of the slice "new wording" only.
"""

CORE_TRAIN: dict[str, tuple[str, ...]] = {
    "refund": (
        "[I'd like|I would like|I want|I need|I am asking for] [my money back|a refund|a full refund|to"
        " be refunded]"
        " for {thing}{ref}.",
        "[Please|Could you|Can you please|Kindly] [refund|reimburse|pay back] {thing}{ref}.",
        "I [sent|shipped|posted|mailed] {thing} back [two weeks ago|on {date}|last month|a while"
        " ago]{ref} and"
        " [still have not got|am still waiting for|never saw] [my money|the refund|a refund|the {price}].",
        "When [will|do|can] I [get|see|receive] [my money|the refund|the {price}] [back |]for {thing}{ref}?",
        "{thing} is not what I [expected|wanted|had in mind]{ref}, [how do I|I want to|can I] return it"
        " [for a refund|and get my money back|and be refunded]?",
        "I [returned|gave back|brought back] {thing}{ref} but the {price} [is not|are not|never came]"
        " [on|back in|back on] my [account|card|bank account].",
        "I [was charged|paid|have been billed] twice for {thing}{ref}, please [pay|give|send] one of"
        " the payments back.",
        "You [took|charged|debited] {price} too much for {thing}{ref}. [Give me back the difference|I"
        " want the"
        " difference refunded|Please return the rest to my card].",
        "I [changed my mind about|don't like|do not want to keep|have no use for] {thing}{ref} and"
        " [want|wish|would"
        " like] to [send it back|return it|give it back] for [a refund|my money].",
        "How long does [a refund|the repayment|getting my money back] [take|need]? I"
        " [gave|brought|sent] {thing} back"
        " [a week ago|on {date}]{ref}.",
        "[Refund request|Return and refund|Money back]: {thing}{ref}.",
        "the [colour|size|fit|look] of {thing} does not suit me{ref}, I'd rather have [the money|my {price}] back.",
        "I [am not happy|am unhappy|was disappointed] with {thing}{ref}, [return my money|money back"
        " please|so I ask"
        " for reimbursement].",
        "[Can|Could|May] I [have|get] the [purchase price|{price}|amount] [of|for] {thing}"
        " [refunded|credited|paid"
        " back] [to my card|to my account|]{ref}?",
        "{thing} went back to [you|the shop|your warehouse] on {date}{ref}, [no refund|no money|no repayment] so far.",
        "You owe me {price} for {thing}{ref}, I [returned|sent back] it [long ago|in {month}].",
    ),
    "delivery_status": (
        "[Where is|Where's|Any idea where] {thing}{ref}[?| right now?| at the moment?]",
        "[When|On what day] will {thing} [arrive|be delivered|get here|come]{ref}?",
        "I [ordered|bought|paid for] {thing} [two weeks ago|on {date}|last week|ages ago]{ref} and [it"
        " has not"
        " arrived|nothing came|it is still not here|I have not received anything].",
        "[What is|What's|Please tell me|Can you check] the [status|delivery status|shipping"
        " status|progress] of"
        " {thing}{ref}[?|.]",
        "Has {thing} [been shipped|been sent|left the warehouse|been dispatched] [yet|already]{ref}?",
        "[The tracking|The tracking page|The tracking link] [has not changed|shows nothing|says in"
        " transit] [for"
        " days|since {date}|for a week]{ref}, where is {thing}?",
        "I'm [still |]waiting for {thing}{ref}, [how much longer|how long will it take|when does it come]?",
        "{thing} was [supposed|meant|promised] to [arrive|come|be here] [on {date}|last"
        " week|yesterday]{ref} [but|and]"
        " [nothing came|no parcel so far|I still have nothing].",
        "[Could|Can] you [look up|find out|tell me] where {thing} is{ref}?",
        "[Do you have|Is there|Could I get] [a delivery date|an arrival date|a tracking number|news] for {thing}{ref}?",
        "The [courier|driver|carrier] [did not come|never showed up|did not ring] [today|on"
        " {date}]{ref}, [when will"
        " they|will they] [try again|bring {thing}]?",
        "[Is|Will] {thing} [still on its way|going to arrive this week|on the truck]{ref}?",
        "My [parcel|package|shipment] with {thing}{ref} [is late|seems lost|is overdue|has not turned up].",
        "[Tracking|Delivery question|Late parcel]: {thing}{ref}.",
        "the [app|website] says {thing} was delivered{ref} but [I got nothing|there is no parcel"
        " here|nobody"
        " received it].",
        "[How is|Any news on|Any update on] the [delivery|shipment|shipping] of {thing}{ref}?",
    ),
    "damaged_item": (
        "{thing} [arrived|came|was delivered|showed up] [broken|damaged|cracked|smashed|in pieces]{ref}.",
        "[The box was crushed and|I opened the parcel and] {thing} [is broken|was damaged|has a big"
        " crack|is"
        " scratched all over]{ref}.",
        "I [received|got|unpacked] {thing} [today|yesterday|on {date}]{ref} and [it has a crack|it is"
        " dented|the glass"
        " is shattered|one corner is broken off].",
        "There [is|was] [a crack|a dent|a scratch|a hole|a big stain] [in|on] {thing} [when it"
        " arrived|out of the"
        " box]{ref}.",
        "[Unfortunately|Sadly|Sorry to say] {thing} [is damaged|was broken in transit|got smashed on the way]{ref}.",
        "{thing} is [scratched|bent|torn|chipped|dented]{ref}, [the packaging was torn too|it looks"
        " like someone"
        " dropped it|it must have happened in transport].",
        "[A part|One piece|The lid|The handle] of {thing} [was broken|is snapped off|is cracked] [on"
        " arrival|when I"
        " opened the box]{ref}.",
        "[I want to report|I have to report|Reporting] [a damaged item|transport damage|a broken item]: {thing}{ref}.",
        "You sent me a [broken|damaged|defective|cracked] one{ref}, [I mean|I am talking about] {thing}.",
        "The [parcel|package|box] was [wet|crushed|open|squashed]{ref} and {thing} [inside |]is"
        " [ruined|damaged|in"
        " pieces].",
        "[Photos attached|See the photo], {thing} [is cracked|is broken|has a dent]{ref}.",
        "What should I do, {thing} [came in pieces|was smashed when I unpacked it|is full of scratches]{ref}?",
        "[Damaged|Broken] [on arrival|delivery]: {thing}{ref}.",
        "{thing} [leaks|has a broken leg|has a torn seam|has a loose part] [right out of the box|since"
        " it was"
        " delivered]{ref}, [clearly|obviously] damaged.",
        "[Can|Could] you [send|ship] a [replacement|new one]? {thing} [arrived with a crack|was broken"
        " in the"
        " box|came damaged]{ref}.",
    ),
    "cancel_order": (
        "[Please|Could you|Can you|Kindly] cancel [my order of|the order for|the purchase of] {thing}{ref}.",
        "I [want|wish|need|would like] to cancel {thing}{ref}.",
        "[Can|Could|May] I [still |]cancel {thing}{ref}? [It has not shipped yet.|I ordered it by mistake.|]",
        "I [ordered|bought] {thing} by [mistake|accident]{ref}, [please stop it|please cancel|do not send it].",
        "[Do not|Don't|Please do not] [ship|send|dispatch] {thing}{ref}, I [no longer need it|found it"
        " cheaper|do not"
        " want it any more].",
        "I [no longer|don't] [want|need] {thing}{ref}, [please stop the order|cancel it please|take it"
        " off the order"
        " before it ships].",
        "[Stop|Halt] the [order|shipment|dispatch] of {thing} [before it leaves|please|at once]{ref}.",
        "I [placed|made] the order for {thing} twice{ref}, please [cancel|delete|drop] one of them.",
        "[Cancellation|Cancel request|Cancelling]: {thing}{ref}.",
        "My [son|daughter|flatmate|cat] [ordered|clicked on] {thing} without asking{ref}, [please"
        " cancel it|it must be"
        " cancelled].",
        "I'd like to [withdraw|call off|revoke] my order [for|of] {thing}{ref}.",
        "Is it [too late|still possible] to cancel {thing}{ref}?",
        "Since {thing} [takes so long|will only ship in {month}]{ref}, I [want to cancel|am"
        " cancelling|cancel it"
        " herewith].",
        "[Changed my plans|Change of plans], please [cancel|remove|annul] {thing}{ref}.",
        "I [pressed|hit|clicked] the order button [too early|by accident] for {thing}{ref}, [undo"
        " it|cancel it|call it"
        " off] please.",
    ),
    "change_address": (
        "[I have moved|I moved|We are moving], please [send|deliver|ship] {thing} to {address}{ref}.",
        "[Please|Could you|Can you] change the [delivery address|shipping address|address] [of|for]"
        " {thing} to {address}{ref}.",
        "[I gave|I entered|I typed] the wrong address for {thing}{ref}, [the right one is|it should"
        " be|correct is]"
        " {address}.",
        "My [new|correct|current] address is {address}, please [update|change|correct] it for {thing}{ref}.",
        "[Can|Could] {thing} be [sent|delivered|shipped] to [my office|my work|my neighbour|another"
        " address] instead"
        "{ref}? [The address is {address}.|It is {address}.]",
        "The [house number|street|postcode|address] [on|for] {thing} is wrong{ref}, [please correct it"
        " to|it must be]"
        " {address}.",
        "I [need|want|would like] to change where {thing} [goes|is sent|gets delivered]{ref}: {address}.",
        "[Address change|New address|Change of address]: {address}, [concerns|for] {thing}{ref}.",
        "I [won't be|will not be] at home, please [redirect|reroute|forward] {thing} to {address}{ref}.",
        "[Do not|Don't] send {thing} to my old [address|flat|house]{ref}, I live at {address} now.",
        "We moved to {city} [last week|in {month}|on {date}], so {thing} [has to|must|should] go to {address}{ref}.",
        "[Please update|Kindly update|Update] my [address|delivery details|shipping details] for"
        " {thing}{ref}."
        " [It is now|New one is|Now] {address}.",
        "I forgot the [house number|flat number|postcode] in the address for {thing}{ref}, it is {address}.",
        "Is it possible to [switch|change] the [delivery|shipping] address of {thing}{ref}? [I moved to"
        " {city}.|I"
        " live in {city} now.|]",
        "{thing} is going to [the wrong|my old|an old] address{ref}, [send it to|it belongs at|change"
        " it to] {address}.",
    ),
    "invoice_copy": (
        "[I need|I'd like|I want|Please send me] [an invoice|the invoice|a copy of the invoice|a"
        " receipt|the bill] for"
        " {thing}{ref}.",
        "[Could|Can|Would] you [send|email|mail] [me |][the invoice|a receipt|a copy of the bill|the"
        " invoice as a PDF]"
        " for {thing}{ref}?",
        "I [lost|cannot find|deleted|never got] the [invoice|receipt|bill] for {thing}{ref}[, please"
        " send it again|, can"
        " I get it once more|].",
        "For my [tax return|taxes|accounting|bookkeeping|employer] I need [the invoice|a receipt|a"
        " bill|an invoice]"
        " for {thing}{ref}.",
        "[There was no|The parcel had no|I did not find an] [invoice|receipt|bill] [in the box|in the"
        " mail|with"
        " {thing}]{ref}, [please send one|can you send it].",
        "Where can I [download|find|print] the [invoice|receipt|bill] for {thing}{ref}?",
        "My [company|boss|accountant|insurance] [needs|wants|asks for] [an invoice|a receipt|the bill]"
        " for {thing}{ref}.",
        "[Invoice|Receipt|Invoice copy] [please|needed|request]: {thing}{ref}.",
        "The invoice [of|for] {thing} [shows the wrong name|lacks the VAT number|has a mistake|is"
        " missing]{ref}, please"
        " [issue a new one|send a corrected one].",
        "[Please issue|Kindly issue|Can you issue] [an invoice|a VAT invoice|a bill] for {thing}{ref}.",
        "I paid {price} for {thing}{ref} and [need|would like] [proof of payment|a receipt|an invoice]"
        " [for my"
        " files|for the office|].",
        "[May|Can] I [have|get] [a second copy|a duplicate|another copy] of the [invoice|receipt|bill]"
        " for {thing}{ref}?",
        "I [still |]have no [invoice|receipt|bill] for {thing}{ref}.",
        "To [claim the warranty|claim the costs|get it booked] I need [a receipt|the invoice] [for|of] {thing}{ref}.",
        "Please [resend|send again|forward] the [invoice|bill|receipt] from {date} for {thing}{ref}.",
    ),
    "technical_help": (
        "{thing} [does not|doesn't|will not|won't] [turn on|start|switch on|work|charge]{ref}.",
        "How do I [set up|connect|reset|install|clean|calibrate] {thing}{ref}?",
        "I [can't|cannot] [get {thing} to work|connect {thing} to the wifi|pair {thing} with my"
        " phone|find the reset"
        " button on {thing}]{ref}.",
        "{thing} [keeps|always keeps] [switching off|restarting|beeping|losing the connection|showing an error]{ref}.",
        "The [display|battery|motor|app|remote] of {thing} [stopped working|shows an error|does"
        " nothing|went dead]"
        " [after|since] [the update|a month|{date}]{ref}.",
        "[Where do I find|Is there|Do you have] [a manual|instructions|a guide] for {thing}{ref}?",
        "{thing} [shows|displays] error [E4|code 12|E07|F3]{ref}, what does [it|that] mean?",
        "[I need help|Please help me|Can someone help me] with [setting up|installing|the settings"
        " of|the setup of]"
        " {thing}{ref}.",
        "Which [battery|cable|filter|adapter|setting] [does {thing} need|do I need for {thing}|does"
        " {thing} take]{ref}?",
        "After the [last |]update {thing} [is very slow|no longer responds|freezes|loses its settings]{ref}.",
        "[Technical question|Support needed|Tech help]: {thing} [does not respond|has no signal|gets very hot]{ref}.",
        "The [red|green|blue] light on {thing} [blinks|is flashing|stays on]{ref}, what [should I do|is wrong]?",
        "I [followed|read] the [manual|instructions] but {thing} still [does not work|won't"
        " connect|makes no sound]"
        "{ref}.",
        "[What am I doing wrong|Any tips]? {thing} [makes a strange noise|won't pair|stops after a"
        " minute|does not"
        " heat up]{ref}.",
        "How can I [change the language|update the software|replace the battery|descale it] on {thing}{ref}?",
    ),
    "other": (
        "[Do you have|Do you sell|Is there] {thing} in [another colour|a bigger size|black|stock]{ref}?",
        "[I just want to say|Just wanted to say] [thank you|thanks], {thing} is [great|wonderful|lovely]{ref}!",
        "I [love|really like|am very happy with] {thing}{ref}, [great service|keep it up|five stars].",
        "[Are you open|What are your opening hours|Is the shop open] on [Sunday|Saturday|public holidays]?",
        "Do you have a [shop|store|showroom] in {city}?",
        "[Are you hiring|Do you have open jobs|I want to apply for a job] in {city}?",
        "[How do I|Where can I] [redeem a gift card|use my voucher|use a discount code] [for {thing}|]{ref}?",
        "[Please remove me from|Unsubscribe me from|I don't want] your [newsletter|mailing list|advertising].",
        "How much [is {thing}|does {thing} cost|do you want for {thing}]{ref}?",
        "Is {thing} [made in Europe|vegan|dishwasher safe|suitable for children|waterproof]{ref}?",
        "I [wrote|left] a [review|comment] about {thing}{ref}, [hope it helps|can you publish it].",
        "[Do I get|Where are my] [bonus points|loyalty points] for {thing}{ref}?",
        "[I forgot my password|I cannot log in to my account|How do I delete my account]?",
        "[Can you gift wrap|Do you gift wrap|Could you gift wrap] {thing}{ref}?",
        "[Do you ship to|Do you deliver to] {city}[?| as well?]",
        "[hello|hi|good morning|test|are you there?|anybody there?|ok|thanks|good evening everyone]",
        "[What is the weather like in {city}|Tell me a joke|Who are you|How old are you|What can you do]?",
        "[The weather is nice today|I had pasta for lunch|My train is late|Football was great yesterday].",
        "[Could we|We would like to] [work together|become a partner|sell your goods] in {city}.",
        "When does the [sale|summer sale|winter sale] [start|end]?",
    ),
}

CORE_NEW: dict[str, tuple[str, ...]] = {
    "refund": (
        "Would it be possible to have the {price} I paid for {thing} returned to me{ref}?",
        "I've decided to give {thing} back{ref}; how do I go about being reimbursed?",
        "It has been a month since {thing} was returned and nobody has paid me back{ref}!",
        "My bank shows no refund yet although you got {thing} back ages ago{ref}.",
        "{thing} went back because it is too small. Still no money on my card{ref}.",
        "Two payments of {price} left my account for {thing}{ref}, I want one refunded.",
        "Please credit the full amount for {thing}{ref}, I will send it back tomorrow.",
    ),
    "delivery_status": (
        "Could someone let me know when to expect {thing}{ref}?",
        "A week has passed and there's no sign of {thing}{ref}, is it on its way?",
        "I stayed at home all day but the courier with {thing} never came{ref}.",
        "Did you already hand {thing} to the carrier{ref}? The tracking says nothing.",
        "I would like to know how far {thing} has come{ref}, the parcel was due on {date}.",
        "Still no delivery of {thing}{ref}. What day will it be here?",
        "Please find out what happened to the shipment of {thing}{ref}, it never arrived.",
    ),
    "damaged_item": (
        "Upon opening the package I noticed that {thing} was badly scratched{ref}.",
        "The driver must have dropped it: {thing} is cracked down the middle{ref}.",
        "I am sorry to tell you that {thing} reached me in a broken state{ref}.",
        "Half of {thing} is smashed{ref}, the box looked crushed as well.",
        "What came out of the box was a dented mess{ref}. It is about {thing}.",
        "Please replace {thing}{ref}, it has a dent and the glass is in pieces.",
        "Poor packaging! {thing} got damaged on its way to me{ref}.",
    ),
    "cancel_order": (
        "Is there any way to take back my order for {thing}{ref}? Please cancel if so.",
        "Forget about {thing}{ref}, we do not need it any more, so please don't ship it.",
        "Kindly confirm that {thing} will be cancelled{ref}.",
        "We bought {thing} somewhere else in the meantime{ref}, so cancel ours.",
        "I made a mistake when ordering {thing}{ref}, can the order be stopped?",
        "Before you pack {thing}{ref}: I do not want it any longer, cancel please.",
        "My wife ordered {thing} as well{ref}, so mine should be cancelled.",
    ),
    "change_address": (
        "We live somewhere else now{ref}: {address}. Please bring {thing} there.",
        "Could you see to it that {thing} goes to {address} rather than to my old flat{ref}?",
        "There is a mistake in the street name for {thing}{ref}, {address} would be correct.",
        "Since I am moving on {date}, have {thing} delivered to {address}{ref}.",
        "Please note my new address for {thing}{ref}. {address}.",
        "I'd prefer to get {thing} at my office, that is {address}{ref}.",
        "Wrong address on {thing}{ref}! Change to {address}.",
    ),
    "invoice_copy": (
        "Our accountant is missing the receipt for {thing}{ref}, could I have it by email?",
        "Be so kind and mail me the paperwork, I mean the invoice for {thing}{ref}.",
        "I looked everywhere but there is no bill for {thing}{ref}. Send me one?",
        "The tax office wants to see an invoice for {thing}{ref}.",
        "How do I get a printed receipt of what I paid for {thing}{ref}?",
        "A copy of the bill of {thing} would help me a lot{ref}.",
        "Please write me a new invoice for {thing} with our company name on it{ref}.",
    ),
    "technical_help": (
        "Nothing happens when I press the start button on {thing}{ref}.",
        "Could you explain to me how to connect {thing} to my phone{ref}?",
        "Every few minutes {thing} switches off by itself{ref}, is there a setting for this?",
        "I read the whole manual and still don't know how to reset {thing}{ref}.",
        "The battery of {thing} does not charge any more since the update{ref}.",
        "There's an error on the display of {thing}{ref}, how do I make it work again?",
        "Help, {thing} lost the wifi connection and won't find it again{ref}.",
    ),
    "other": (
        "Will you have {thing} in a smaller size again{ref}?",
        "Big compliment to your team, we are really happy with {thing}{ref}!",
        "Which days is your shop in {city} open?",
        "My discount code for {thing} is not accepted, how can I use it{ref}?",
        "Please stop sending me your newsletter.",
        "Does {thing} come in black too, and what does it cost{ref}?",
        "Is there an open job for a student in your {city} store?",
        "Good evening, how are you today?",
    ),
}

# Frames around the core sentence. Held-out "new wording" cases mix both columns.
GREETING = (
    "Hello,",
    "Hi,",
    "Hi there,",
    "Dear team,",
    "Good morning,",
    "Hey,",
    "Dear Sir or Madam,",
    "Hello {person},",
)
GREETING_NEW = ("Greetings,", "Hello dear support,", "Good day {person},", "Hi folks,")

REF = (
    " (order {order})",
    " (order no. {order})",
    ", order {order}",
    ", order number {order}",
    " [from|in|with|under] order {order}",
    ", {order}",
    " (#{order})",
    " - order #{order}",
)
REF_NEW = (" (my order: {order})", ", it is order {order}", " (reference {order})")

ORDER_LINE = (
    "[My|The] order number is {order}.",
    "Order [number|no.|#|]: {order}",
    "It is [about|for] order {order}.",
    "Order {order}.",
    "[The number on the confirmation is|Confirmation says] {order}.",
    "I ordered it under {order}[ on {date}|].",
)
ORDER_LINE_NEW = (
    "The order has the number {order}.",
    "You'll find it under order {order}.",
    "Number of the order: {order}",
)

NAME_LINE = (
    "My name is {name}.",
    "I'm {name}.",
    "This is {name}[ from {city}|].",
    "Name: {name}",
    "The order [is in|is under|was in] the name of {name}.",
    "[Customer|Account holder|Account name]: {name}.",
)
NAME_LINE_NEW = ("I am called {name}.", "You have me in your files as {name}.", "Writing to you: {name}.")

SIGNATURE = (
    "[Thanks|Thank you|Many thanks|Cheers], {name}",
    "[Best regards|Kind regards|Regards|Best|Greetings], {name}",
    "[Best regards|Kind regards|Yours sincerely|Thanks],\n{name}",
    "{name}",
    "- {name}",
    "[Thanks|Yours], {name}, {city}",
)
SIGNATURE_NEW = ("Have a nice day, {name}", "With kind wishes,\n{name}", "All the best, {name}")

CLOSING = (
    "Thanks!",
    "Thank you.",
    "Best regards",
    "Please reply soon.",
    "Thanks in advance!",
    "Regards",
    "Cheers",
)

DISTRACTOR = (
    "I also [bought|ordered|have] a {product2}, [that one is fine|which is fine|no problem with that one].",
    "The {product2} [from last time|I bought in {month}] [was great|was fine|works well].",
    "I [spoke to|talked to|called] {person} [on the phone|last week|on {date}] [about it|but nothing happened|].",
    "Your colleague {person} [told me to write here|could not help me|promised to call back].",
    "It [is|was] a [present|gift] for my [sister|brother|mother|friend] {person}.",
    "[You can reach me at|Call me at|My phone number is|Phone:] {phone}.",
    "[It cost|I paid] {price}[ by card| by bank transfer|].",
    "[I bought|I ordered|Bought|Ordered] it on {date}[ in your shop in {city}| for {price}|].",
    "My customer number is {customer}.",
    "The [parcel|tracking] number is {tracking}.",
    "[I have been a customer for years.|This is the second time I write.|I am a bit annoyed.|It is"
    " raining here in"
    " {city}.|Sorry to bother you.|I hope you are well.|My kids were looking forward to it.|I only have"
    " time on"
    " weekends.]",
    "[My email is|Write to me at|You can write to] {email}.",
    "[No need to call me|No hurry|Please answer quickly|It is urgent], [thanks|I am at work until"
    " five|I leave on"
    " {date}].",
)
DISTRACTOR_NEW = (
    "By the way, the {product2} is working fine.",
    "My husband {person} told me to write to you.",
    "If you have questions, my number is {phone}.",
    "We have been shopping with you since {month}.",
)
