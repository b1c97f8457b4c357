"""Names, products and places the messages are filled with. The *_HELD pools occur in held-out cases only."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


FIRST = _words(
    "Mara, Jonas, Elif, Piet, Sofia, Liam, Noor, Tomás, Ana, Viktor, Greta, Hugo, Amira, Pavel, Ingrid, Samuel, "
    "Yuki, Carla, Dmitri, Fatima, Oscar, Leonie, Rafael, Maja, Stefan, Chloe, Ibrahim, Nina, Anton, Beatriz, Karl, "
    "Rosa, Emil, Zoë, Marek, Alice, Bram, Selma, David, Priya, Arjun, Helen, George, Martha, Louis, Camille, Ola, "
    "Kasper, Irina, Felix, Laura, Peter, Julia, Thomas, Sarah, Daniel, Emma, Lucas, Olivia, Ben, Grace, Henry, "
    "Ruth, Adam, Eva, Kim, Sven, Teresa, Paulo, Lena, Omar, Layla, Kofi, Abena, Wei, Mei, Hiro, Aiko, Carlos, "
    "Lucia, Diego, Elena, Marco"
)
FIRST_HELD = _words(
    "Tobias, Yasmin, Gustav, Freya, Ramon, Agnes, Cedric, Malin, Boris, Dalia, Edwin, Sanne, Ewa, Rolf, Chiara, Levi"
)
LAST = _words(
    "Lindt, Berger, Okafor, Jansen, Novak, Silva, Kaya, Rossi, Weber, Dubois, Haas, Petrov, Tanaka, Ortega, "
    "Nielsen, Kowalski, Meyer, Lopez, Ahmed, Singh, Patel, Brown, Clark, Walker, Hughes, Evans, Fischer, Wagner, "
    "Keller, Braun, Moreau, Laurent, Girard, Bianchi, Ricci, Marino, Costa, Pereira, Sousa, Larsen, Hansen, Berg, "
    "Holm, Virtanen, Korhonen, Nowak, Horvat, Kovac, Popescu, Ionescu, Dimitrov, Papas, Yilmaz, Demir, Haddad, "
    "Mansour, Mensah, Diallo, Chen, Wang, Zhang, Suzuki, Sato, Kim, Park, Nguyen, Tran, Garcia, Torres, Ruiz, "
    "Vega, Molina, Castro, Müller, Schmidt, Vogel, Winter, Sommer, Lang, Klein, Gross, Stone, Wood, Hill, Green, "
    "Baker, Cooper, Turner, O'Brien, Murphy"
)
LAST_HELD = _words(
    "Lagerkvist, Zimmermann, Achterberg, Fontaine, Bergamini, Osei, Radu, Thorsen, Villar, Quinn, Sandoval, Ulrich, "
    "Whitfield, Drozd, Eklund, Harper, Iwata, Jokinen, Marchetti, Norberg"
)
NOUN = _words(
    "kettle, toaster, desk lamp, backpack, coffee machine, blender, vacuum cleaner, office chair, bookshelf, "
    "headphones, keyboard, mouse, monitor, tablet, phone case, charger, power bank, speaker, camera, tripod, "
    "printer, router, drill, saw, hammer, toolbox, ladder, garden hose, lawn mower, tent, sleeping bag, hiking "
    "boots, running shoes, rain jacket, umbrella, suitcase, wallet, watch, sunglasses, yoga mat, dumbbell, bicycle "
    "pump, helmet, scooter, skateboard, puzzle, board game, doll, train set, baby monitor, stroller, high chair, "
    "pillow, blanket, mattress, curtain, carpet, mirror, wall clock, vase, candle holder, picture frame, teapot, "
    "frying pan, knife set, cutting board, mixing bowl, rice cooker, microwave, fridge, dishwasher, washing "
    "machine, iron, hair dryer, razor, toothbrush, scale, thermometer, humidifier, heater, fan, air purifier, "
    "smoke detector, doorbell, door lock, light bulb, extension cord, plant pot, bird feeder, dog bed, cat tree, "
    "fish tank, guitar, violin, microphone, music stand, notebook, fountain pen, projector, game console"
)
NOUN_HELD = _words(
    "waffle iron, desk fan, wine rack, bread maker, soldering iron, telescope, hammock, trumpet, paper shredder, "
    "shoe rack, bath towel, salad bowl, snow shovel, sewing machine, car seat, label maker, garden table, espresso "
    "cup"
)
ADJECTIVE = _words(
    "steel, wooden, red, blue, green, black, white, folding, cordless, electric, wireless, leather, small, large, "
    "glass, ceramic, portable, foldable, cotton, digital, smart, grey, yellow, plastic, copper"
)
CITY = _words(
    "Utrecht, Graz, Lyon, Porto, Leeds, Ghent, Turin, Bergen, Malmö, Brno, Gdansk, Cork, Bonn, Seville, Zagreb, "
    "Kiel, Nantes, Basel, Tampere, Odense, Bristol, Dublin, Vienna, Hamburg, Boston, Austin, Denver, Toronto"
)
STREET = _words(
    "Mill Lane, Station Road, Park Avenue, High Street, Church Road, Lindenweg, Rue Verte, Kanaalstraat, Oak Drive, "
    "Bridge Street, Gartenweg, Via Roma, King Street, Elm Court, Hafenstrasse, Rose Hill"
)
MONTH = _words("January, February, March, April, May, June, July, August, September, October, November, December")
