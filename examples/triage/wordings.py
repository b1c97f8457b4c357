"""The sentences that say what a customer wants, as training sees them; phrases.py explains the notation."""

_FIRST: dict[str, tuple[str, ...]] = {
    "refund": (
        "[I'd like|I would like|I want|I need|I am asking for] [my money back|a refund|a full refund|to be "
        "refunded] for {thing}{ref}.",
        "[Please|Could you|Can you please|Kindly] [refund|reimburse|pay back] {thing}{ref}.",
        "I [sent|shipped|posted|mailed] {thing} back [two weeks ago|on {date}|last month|a while ago]{ref} and "
        "[still have not got|am still waiting for|never saw] [my money|the refund|a refund|the {price}].",
        "When [will|do|can] I [get|see|receive] [my money|the refund|the {price}] [back |]for {thing}{ref}?",
        "{thing} is not what I [expected|wanted|had in mind]{ref}, [how do I|I want to|can I] return it [for a "
        "refund|and get my money back|and be refunded]?",
        "I [returned|gave back|brought back] {thing}{ref} but the {price} [is not|are not|never came] [on|back "
        "in|back on] my [account|card|bank account].",
        "I [was charged|paid|have been billed] twice for {thing}{ref}, please [pay|give|send] one of the payments "
        "back.",
        "You [took|charged|debited] {price} too much for {thing}{ref}. [Give me back the difference|I want the "
        "difference refunded|Please return the rest to my card].",
        "I [changed my mind about|don't like|do not want to keep|have no use for] {thing}{ref} and [want|wish|would "
        "like] to [send it back|return it|give it back] for [a refund|my money].",
        "How long does [a refund|the repayment|getting my money back] [take|need]? I [gave|brought|sent] {thing} "
        "back [a week ago|on {date}]{ref}.",
        "[Refund request|Return and refund|Money back]: {thing}{ref}.",
        "the [colour|size|fit|look] of {thing} does not suit me{ref}, I'd rather have [the money|my {price}] back.",
        "I [am not happy|am unhappy|was disappointed] with {thing}{ref}, [return my money|money back please|so I "
        "ask for reimbursement].",
        "[Can|Could|May] I [have|get] the [purchase price|{price}|amount] [of|for] {thing} [refunded|credited|paid "
        "back] [to my card|to my account|]{ref}?",
        "{thing} went back to [you|the shop|your warehouse] on {date}{ref}, [no refund|no money|no repayment] so far.",
        "You owe me {price} for {thing}{ref}, I [returned|sent back] it [long ago|in {month}].",
    ),
    "delivery_status": (
        "[Where is|Where's|Any idea where] {thing}{ref}[?| right now?| at the moment?]",
        "[When|On what day] will {thing} [arrive|be delivered|get here|come]{ref}?",
        "I [ordered|bought|paid for] {thing} [two weeks ago|on {date}|last week|ages ago]{ref} and [it has not "
        "arrived|nothing came|it is still not here|I have not received anything].",
        "[What is|What's|Please tell me|Can you check] the [status|delivery status|shipping status|progress] of "
        "{thing}{ref}[?|.]",
        "Has {thing} [been shipped|been sent|left the warehouse|been dispatched] [yet|already]{ref}?",
        "[The tracking|The tracking page|The tracking link] [has not changed|shows nothing|says in transit] [for "
        "days|since {date}|for a week]{ref}, where is {thing}?",
        "I'm [still |]waiting for {thing}{ref}, [how much longer|how long will it take|when does it come]?",
        "{thing} was [supposed|meant|promised] to [arrive|come|be here] [on {date}|last week|yesterday]{ref} "
        "[but|and] [nothing came|no parcel so far|I still have nothing].",
        "[Could|Can] you [look up|find out|tell me] where {thing} is{ref}?",
        "[Do you have|Is there|Could I get] [a delivery date|an arrival date|a tracking number|news] for {thing}{ref}?",
        "The [courier|driver|carrier] [did not come|never showed up|did not ring] [today|on {date}]{ref}, [when "
        "will they|will they] [try again|bring {thing}]?",
        "[Is|Will] {thing} [still on its way|going to arrive this week|on the truck]{ref}?",
        "My [parcel|package|shipment] with {thing}{ref} [is late|seems lost|is overdue|has not turned up].",
        "[Tracking|Delivery question|Late parcel]: {thing}{ref}.",
        "the [app|website] says {thing} was delivered{ref} but [I got nothing|there is no parcel here|nobody "
        "received it].",
        "[How is|Any news on|Any update on] the [delivery|shipment|shipping] of {thing}{ref}?",
    ),
    "damaged_item": (
        "{thing} [arrived|came|was delivered|showed up] [broken|damaged|cracked|smashed|in pieces]{ref}.",
        "[The box was crushed and|I opened the parcel and] {thing} [is broken|was damaged|has a big crack|is "
        "scratched all over]{ref}.",
        "I [received|got|unpacked] {thing} [today|yesterday|on {date}]{ref} and [it has a crack|it is dented|the "
        "glass is shattered|one corner is broken off].",
        "There [is|was] [a crack|a dent|a scratch|a hole|a big stain] [in|on] {thing} [when it arrived|out of the "
        "box]{ref}.",
        "[Unfortunately|Sadly|Sorry to say] {thing} [is damaged|was broken in transit|got smashed on the way]{ref}.",
        "{thing} is [scratched|bent|torn|chipped|dented]{ref}, [the packaging was torn too|it looks like someone "
        "dropped it|it must have happened in transport].",
        "[A part|One piece|The lid|The handle] of {thing} [was broken|is snapped off|is cracked] [on arrival|when I "
        "opened the box]{ref}.",
        "[I want to report|I have to report|Reporting] [a damaged item|transport damage|a broken item]: {thing}{ref}.",
        "You sent me a [broken|damaged|defective|cracked] one{ref}, [I mean|I am talking about] {thing}.",
        "The [parcel|package|box] was [wet|crushed|open|squashed]{ref} and {thing} [inside |]is [ruined|damaged|in "
        "pieces].",
        "[Photos attached|See the photo], {thing} [is cracked|is broken|has a dent]{ref}.",
        "What should I do, {thing} [came in pieces|was smashed when I unpacked it|is full of scratches]{ref}?",
        "[Damaged|Broken] [on arrival|delivery]: {thing}{ref}.",
        "{thing} [leaks|has a broken leg|has a torn seam|has a loose part] [right out of the box|since it was "
        "delivered]{ref}, [clearly|obviously] damaged.",
        "[Can|Could] you [send|ship] a [replacement|new one]? {thing} [arrived with a crack|was broken in the "
        "box|came damaged]{ref}.",
    ),
    "cancel_order": (
        "[Please|Could you|Can you|Kindly] cancel [my order of|the order for|the purchase of] {thing}{ref}.",
        "I [want|wish|need|would like] to cancel {thing}{ref}.",
        "[Can|Could|May] I [still |]cancel {thing}{ref}? [It has not shipped yet.|I ordered it by mistake.|]",
        "I [ordered|bought] {thing} by [mistake|accident]{ref}, [please stop it|please cancel|do not send it].",
        "[Do not|Don't|Please do not] [ship|send|dispatch] {thing}{ref}, I [no longer need it|found it cheaper|do "
        "not want it any more].",
        "I [no longer|don't] [want|need] {thing}{ref}, [please stop the order|cancel it please|take it off the "
        "order before it ships].",
        "[Stop|Halt] the [order|shipment|dispatch] of {thing} [before it leaves|please|at once]{ref}.",
        "I [placed|made] the order for {thing} twice{ref}, please [cancel|delete|drop] one of them.",
        "[Cancellation|Cancel request|Cancelling]: {thing}{ref}.",
        "My [son|daughter|flatmate|cat] [ordered|clicked on] {thing} without asking{ref}, [please cancel it|it must "
        "be cancelled].",
        "I'd like to [withdraw|call off|revoke] my order [for|of] {thing}{ref}.",
        "Is it [too late|still possible] to cancel {thing}{ref}?",
        "Since {thing} [takes so long|will only ship in {month}]{ref}, I [want to cancel|am cancelling|cancel it "
        "herewith].",
        "[Changed my plans|Change of plans], please [cancel|remove|annul] {thing}{ref}.",
        "I [pressed|hit|clicked] the order button [too early|by accident] for {thing}{ref}, [undo it|cancel it|call "
        "it off] please.",
    ),
    "change_address": (
        "[I have moved|I moved|We are moving], please [send|deliver|ship] {thing} to {address}{ref}.",
        "[Please|Could you|Can you] change the [delivery address|shipping address|address] [of|for] {thing} to "
        "{address}{ref}.",
        "[I gave|I entered|I typed] the wrong address for {thing}{ref}, [the right one is|it should be|correct is] "
        "{address}.",
        "My [new|correct|current] address is {address}, please [update|change|correct] it for {thing}{ref}.",
        "[Can|Could] {thing} be [sent|delivered|shipped] to [my office|my work|my neighbour|another address] "
        "instead{ref}? [The address is {address}.|It is {address}.]",
        "The [house number|street|postcode|address] [on|for] {thing} is wrong{ref}, [please correct it to|it must "
        "be] {address}.",
        "I [need|want|would like] to change where {thing} [goes|is sent|gets delivered]{ref}: {address}.",
        "[Address change|New address|Change of address]: {address}, [concerns|for] {thing}{ref}.",
        "I [won't be|will not be] at home, please [redirect|reroute|forward] {thing} to {address}{ref}.",
        "[Do not|Don't] send {thing} to my old [address|flat|house]{ref}, I live at {address} now.",
        "We moved to {city} [last week|in {month}|on {date}], so {thing} [has to|must|should] go to {address}{ref}.",
        "[Please update|Kindly update|Update] my [address|delivery details|shipping details] for {thing}{ref}. [It "
        "is now|New one is|Now] {address}.",
        "I forgot the [house number|flat number|postcode] in the address for {thing}{ref}, it is {address}.",
        "Is it possible to [switch|change] the [delivery|shipping] address of {thing}{ref}? [I moved to {city}.|I "
        "live in {city} now.|]",
        "{thing} is going to [the wrong|my old|an old] address{ref}, [send it to|it belongs at|change it to] "
        "{address}.",
    ),
    "invoice_copy": (
        "[I need|I'd like|I want|Please send me] [an invoice|the invoice|a copy of the invoice|a receipt|the bill] "
        "for {thing}{ref}.",
        "[Could|Can|Would] you [send|email|mail] [me |][the invoice|a receipt|a copy of the bill|the invoice as a "
        "PDF] for {thing}{ref}?",
        "I [lost|cannot find|deleted|never got] the [invoice|receipt|bill] for {thing}{ref}[, please send it "
        "again|, can I get it once more|].",
        "For my [tax return|taxes|accounting|bookkeeping|employer] I need [the invoice|a receipt|a bill|an invoice] "
        "for {thing}{ref}.",
        "[There was no|The parcel had no|I did not find an] [invoice|receipt|bill] [in the box|in the mail|with "
        "{thing}]{ref}, [please send one|can you send it].",
        "Where can I [download|find|print] the [invoice|receipt|bill] for {thing}{ref}?",
        "My [company|boss|accountant|insurance] [needs|wants|asks for] [an invoice|a receipt|the bill] for "
        "{thing}{ref}.",
        "[Invoice|Receipt|Invoice copy] [please|needed|request]: {thing}{ref}.",
        "The invoice [of|for] {thing} [shows the wrong name|lacks the VAT number|has a mistake|is missing]{ref}, "
        "please [issue a new one|send a corrected one].",
        "[Please issue|Kindly issue|Can you issue] [an invoice|a VAT invoice|a bill] for {thing}{ref}.",
        "I paid {price} for {thing}{ref} and [need|would like] [proof of payment|a receipt|an invoice] [for my "
        "files|for the office|].",
        "[May|Can] I [have|get] [a second copy|a duplicate|another copy] of the [invoice|receipt|bill] for "
        "{thing}{ref}?",
        "I [still |]have no [invoice|receipt|bill] for {thing}{ref}.",
        "To [claim the warranty|claim the costs|get it booked] I need [a receipt|the invoice] [for|of] {thing}{ref}.",
        "Please [resend|send again|forward] the [invoice|bill|receipt] from {date} for {thing}{ref}.",
    ),
    "technical_help": (
        "{thing} [does not|doesn't|will not|won't] [turn on|start|switch on|work|charge]{ref}.",
        "How do I [set up|connect|reset|install|clean|calibrate] {thing}{ref}?",
        "I [can't|cannot] [get {thing} to work|connect {thing} to the wifi|pair {thing} with my phone|find the "
        "reset button on {thing}]{ref}.",
        "{thing} [keeps|always keeps] [switching off|restarting|beeping|losing the connection|showing an error]{ref}.",
        "The [display|battery|motor|app|remote] of {thing} [stopped working|shows an error|does nothing|went dead] "
        "[after|since] [the update|a month|{date}]{ref}.",
        "[Where do I find|Is there|Do you have] [a manual|instructions|a guide] for {thing}{ref}?",
        "{thing} [shows|displays] error [E4|code 12|E07|F3]{ref}, what does [it|that] mean?",
        "[I need help|Please help me|Can someone help me] with [setting up|installing|the settings of|the setup of] "
        "{thing}{ref}.",
        "Which [battery|cable|filter|adapter|setting] [does {thing} need|do I need for {thing}|does {thing} "
        "take]{ref}?",
        "After the [last |]update {thing} [is very slow|no longer responds|freezes|loses its settings]{ref}.",
        "[Technical question|Support needed|Tech help]: {thing} [does not respond|has no signal|gets very hot]{ref}.",
        "The [red|green|blue] light on {thing} [blinks|is flashing|stays on]{ref}, what [should I do|is wrong]?",
        "I [followed|read] the [manual|instructions] but {thing} still [does not work|won't connect|makes no "
        "sound]{ref}.",
        "[What am I doing wrong|Any tips]? {thing} [makes a strange noise|won't pair|stops after a minute|does not "
        "heat up]{ref}.",
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

_MORE: dict[str, tuple[str, ...]] = {
    "refund": (
        "[Is it possible|Am I able|Would I be able] to get [a refund|reimbursed|the money back] for {thing}{ref}?",
        "I [have not|haven't] been [refunded|reimbursed|paid back|credited] for {thing}{ref} [yet|so far|until now].",
        "[My|The] [refund|reimbursement|repayment|credit] for {thing} [is missing|is overdue|has not come "
        "through]{ref}.",
        "[Somebody|Your shop|The system] [debited|charged|billed] my [card|account] [two times|double|twice] for "
        "{thing}{ref}, [reverse|refund|return] [one|the second payment].",
        "{thing} [is too big|is too small|does not fit|is ugly|was a bad buy]{ref}, I [want|expect|demand] [the "
        "{price}|a refund|my money] [back|]please.",
        "[Please transfer|Please return|Put] the [{price}|money|full price|amount] for {thing} [back|] to my "
        "[card|bank|account]{ref}.",
        "[How|Where] [do I|can I] [claim|request|ask for] [a refund|reimbursement|my money] for {thing}{ref}?",
        "I [handed in|dropped off|sent off] the return of {thing} [on {date}|weeks ago]{ref}, [and my bank account "
        "shows nothing|is the money coming|where does my refund stay].",
        "[The statement|My bank|My card statement] [shows|says] {price} [too much|twice] for {thing}{ref}.",
        "I am [returning|sending back] {thing}{ref}, [please refund|and expect the refund of] [the full amount|all "
        "of it|{price}].",
    ),
    "delivery_status": (
        "[There is|I see] no [sign|trace|movement] of {thing} [since {date}|in the tracking|at all]{ref}.",
        "[Let me know|Please tell me|Can somebody say] [when|on which day] {thing} [gets here|will be here|is "
        "coming|leaves your warehouse]{ref}.",
        "[Today|Yesterday|On {date}] I [waited|stayed in|took the day off] [for the courier|for {thing}]{ref} "
        "[and|but] [no one came|nobody rang|nothing was delivered].",
        "{thing} [never arrived|has not arrived|did not reach me|was not delivered|got lost on the way]{ref}.",
        "[How far|How far away] is {thing}{ref}? [It was due|I expected it] [on {date}|days ago].",
        "[I wonder|I'd like to know|I want to know] [where {thing} is|what happened to {thing}|when {thing} "
        "comes|if {thing} was sent]{ref}.",
        "[Is|Was] {thing} [handed over|given|passed] to the [carrier|post|courier][ already| at last|]{ref}?",
        "[It has been|It's been|For] [ten days|two weeks|a month] [now |]and {thing} is [not here|still "
        "travelling|nowhere to be seen]{ref}.",
        "[Expected|Promised|Estimated] [delivery|arrival] of {thing} was {date}{ref}, [what is the delay|why so "
        "late|where is it]?",
        "[Which|What] day [can I expect|should I be home for] {thing}{ref}?",
        "[My neighbours have no|The post office has no|Nobody has my] parcel with {thing}{ref}[, please trace it|].",
    ),
    "damaged_item": (
        "[When I opened|On opening|After opening] the [box|parcel|package] [I found|I saw] {thing} [broken|in "
        "pieces|scratched|cracked|badly dented]{ref}.",
        "[I regret|I'm sad|I have] to [say|tell you|inform you] that {thing} [came|arrived|is here, but] [in bad "
        "shape|broken|damaged]{ref}.",
        "[Your courier|The carrier|Someone] [threw|dropped|crushed] [the parcel|the box|it] and {thing} [broke|got "
        "cracked|is smashed now]{ref}.",
        "{thing} [got|was] [damaged|crushed|smashed|scratched] [in the post|on the way|during shipping|by bad "
        "packaging]{ref}.",
        "[Half|Parts|The front|The bottom|One side] of {thing} [is|are] [broken|dented|smashed|shattered|bent]{ref}.",
        "The packaging was [poor|torn|too thin]{ref}, [so|and] {thing} [is scratched|has dents|broke].",
        "[Please exchange|Please replace|I need a replacement for] {thing}{ref}, [it is cracked|it came broken|the "
        "glass is broken|it has dents].",
        "{thing} [reached us|was handed to me|landed here] with [a crack|a dent|scratches|broken glass|a hole]{ref}.",
        "[What a mess|Bad surprise|Not good]: {thing} is [in pieces|shattered|dented all over|ripped]{ref}.",
        "[It's about|It is about|This concerns] {thing}{ref}, [which is cracked|delivered broken|the corner is "
        "dented|it was damaged in the box].",
    ),
    "cancel_order": (
        "[Kindly|Please] [confirm|make sure] that [my order|the order] for {thing} [is cancelled|gets cancelled|was "
        "stopped]{ref}.",
        "[We|I] [got|found|bought] {thing} [in another shop|from a friend|elsewhere]{ref}, [cancel the order|so "
        "cancel it|the order can be cancelled].",
        "[Is there a way|Any chance|How do I manage] to [cancel|stop|undo|take back] [the|my] order [for|of] "
        "{thing}{ref}?",
        "{thing} [should|must] [be cancelled|not be sent|not be shipped]{ref}[, I made an error|, sorry|].",
        "[If it is not too late|As long as it has not left|Before it ships], [cancel|stop|do not send] {thing}{ref}.",
        "I [do not|don't|no longer] want {thing} [any more|any longer|now]{ref}, [so do not ship it|so stop the "
        "order|cancel].",
        "My [husband|mother|partner|colleague] [had already ordered|also ordered|bought] {thing}{ref}, [cancel "
        "mine|we need only one, cancel this one].",
        "[It was a mistake|I was wrong|I erred] to order {thing}{ref}, [stop it please|can you cancel|cancel it].",
        "[Never mind|Forget it], [I don't need|we won't need] {thing} [after all|now]{ref}, [please don't pack "
        "it|please cancel].",
        "[Take|Remove|Delete] {thing} from my [order|basket|open orders]{ref}, [I don't want it|it is not needed "
        "any more].",
        "I [herewith|hereby|now] cancel {thing}{ref}.",
    ),
    "change_address": (
        "[I live|We live|My family lives] [in a new flat|in another street|at another place] [now|since "
        "{date}]{ref}: {address}. [Send|Deliver|Bring] {thing} there.",
        "[I'd prefer|I would rather have|It is better to have] {thing} [sent|delivered|brought] to {address}{ref}.",
        "[There's an error|There is a typo|I made a mistake] in [my address|the address|the street] for "
        "{thing}{ref}, [correct|right] is {address}.",
        "[Please note|Note|Take down] [the new|my changed|another] [delivery address|address]{ref} [for|of] "
        "{thing}: {address}.",
        "[Make sure|See] that {thing} [goes to|is sent to|arrives at] {address} [and not|instead of] my [old "
        "house|old place|home]{ref}.",
        "[I am moving|We move|I will move] [on {date}|in {month}|soon], [have|let] {thing} [delivered|sent|brought] "
        "to {address}{ref}.",
        "Wrong [street|city|house number] [for|with] {thing}{ref}, [use|take|it is] {address}.",
        "[The right|The new|My work|My office] address [is|would be] {address}{ref}, [for|concerning] {thing}.",
        "{address} [is where|is the place where] {thing} [should go|has to be delivered|must be sent]{ref}.",
        "[Can you|Could you|Would you] [deliver|bring|ship] {thing} to {address}, [not to the old address|I no "
        "longer live in {city}]{ref}?",
    ),
    "invoice_copy": (
        "[How|Where] [do|can] I [get|obtain|request] [an invoice|a receipt|a printed bill|the paperwork] for "
        "{thing}{ref}?",
        "[Our|My] [accountant|tax adviser|bookkeeper|tax office|bank] [is missing|wants to see|needs|asks for] [the "
        "bill|the invoice|a receipt|an invoice] [for|of] {thing}{ref}.",
        "[A copy|A duplicate|A PDF] of the [invoice|bill|receipt] [for|of] {thing} [would be nice|is what I "
        "need|would help]{ref}.",
        "[Write|Make|Print] me [a new|another|a proper] [invoice|bill|receipt] for {thing}{ref}, [with VAT|with my "
        "company name|with my name on it] please.",
        "[I looked|I searched] [in my mail|in the box|on the site] [but|and] [there is no|found no] "
        "[bill|invoice|receipt] for {thing}{ref}.",
        "[Be so kind|Would you be so kind] [as to|and] [send|mail|email] [the bill|the receipt|an invoice] for "
        "{thing}{ref}.",
        "[No invoice came|The invoice never came|I miss the invoice] [with|for] {thing}{ref}.",
        "[Could I have|May I have|I want to have] the [receipt|bill|invoice] of {thing} [by email|by post|as a "
        "file]{ref}?",
        "[Our company|The office|My employer] [pays|paid] for {thing}{ref}, [please invoice us|we need the bill|an "
        "invoice is required].",
        "[The bill|My receipt|The invoice] for {thing} [got lost|was thrown away|is gone]{ref}[, a copy please|].",
    ),
    "technical_help": (
        "[Nothing happens|Nothing|It does nothing] when I [press|push|hold] the [button|power button|switch|reset "
        "key] [on|of] {thing}{ref}.",
        "[Every|After] [few minutes|five minutes|hour] {thing} [turns itself off|restarts|goes off|loses wifi|loses "
        "connection]{ref}.",
        "[Could you|Can you|Please] [explain|show me|tell me] how to [use|start|reset|pair|connect|set up] "
        "{thing}{ref}.",
        "There is an error [message|code|] on [the display|the screen] of {thing}{ref}, [what do I do|help|how do I "
        "fix it].",
        "{thing} [lost|cannot find|has lost] [the wifi|the network|its connection|bluetooth]{ref}[, what now|].",
        "The [battery|motor|sensor|screen] [of|in] {thing} [does not charge|is always empty|does not react|is "
        "stuck] [any more|since {date}|]{ref}.",
        "[I don't know|I do not understand|The manual does not say] how to [set|reset|connect|operate|clean] "
        "{thing}{ref}.",
        "[Help|Please help|I need support], {thing} [is stuck|won't react|is not working|does not start any "
        "more]{ref}.",
        "[Which|What] [setting|mode|program|app] [do I use|is right] for {thing}{ref}?",
        "[Is there|Do you know] [a setting|a trick|an update|a fix] [for|to stop] the "
        "[noise|beeping|error|blinking] of {thing}{ref}?",
        "[How do I make|How can I make|I want to make] {thing} work [with my phone|again|with my router|on "
        "batteries]{ref}?",
    ),
    "other": (
        "[Will you|Do you|When do you] [have|get] {thing} [again|in other colours|in a small size|in white|back on "
        "the shelf]{ref}?",
        "[My compliments|Big thanks|Kudos|Compliments] to [the team|your staff|all of you], {thing} is "
        "[super|perfect|just right]{ref}.",
        "We are [so|really|very] [happy|pleased|content] with {thing}{ref}[!|, thanks a lot.]",
        "[What are the opening hours of|When do you open|How late is] your [shop|store] in {city}?",
        "My [voucher|gift card|coupon|promo code] [is not accepted|does not work|was rejected] [for {thing}|in the "
        "shop|]{ref}[, why|]?",
        "[Please stop|Stop] [the newsletter|sending me adverts|the emails|mailing me offers].",
        "[Are there|Do you offer] [jobs|internships|student jobs|open positions] in your [shop|store|office] in "
        "{city}?",
        "[What does {thing} cost|What is the price of {thing}|Is {thing} on sale][ now|]{ref}?",
        "[Which|What] [colours|sizes] does {thing} [come in|have]{ref}?",
        "[Is|Are] your [shop|store|office] in {city} [open|closed] [on Monday|today|at Easter|in {month}]?",
        "[On which|At what] [days|hours|times] [are you|is the store] open[ in {city}|]?",
        "[Is|Will] {thing} [be |][available|sold|offered] in [red|grey|a larger size|other sizes][ too|]{ref}?",
        "How do I [use|enter|apply] my [code|discount|voucher|bonus] [on|for|with] {thing}{ref}?",
        "[Take me off|Delete me from|I did not ask for] [your mailing list|these newsletters|the newsletter].",
        "[Well done|Nice work|Bravo], [we enjoy|I enjoy|everyone likes] {thing}{ref}.",
        "[Can students|Could I|May my son] [work|do an internship|apply] [in|at] your {city} [store|office|branch]?",
        "[Good morning|Good evening|Hello|Hey], [how are you|how is it going|nice to meet you|can you hear me]?",
        "[Can I|May I] [pay with|use] [a credit card|cash|two vouchers] [in the shop|for {thing}]{ref}?",
        "I [rated|reviewed|recommended] {thing} [with five stars|to my friends|on your site]{ref}.",
    ),
}

CORE_TRAIN: dict[str, tuple[str, ...]] = {intent: _FIRST[intent] + _MORE[intent] for intent in _FIRST}
