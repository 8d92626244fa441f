"""Words to speak, and sentences made of them. Every fifth word of a list is kept for tests."""

from __future__ import annotations

import numpy as np

from training.world.casting import Split

_WORDS: dict[str, str] = {
    "en": (
        "morning window paper little apple river garden music summer people family butter moment yellow "
        "purple orange animal camera village market simple problem bubble pepper maybe pompom mamma baby "
        "before remember number welcome believe beautiful flower forest coffee fifty voice very lovely heavy "
        "over ever water winter world wonder always away quiet queen school moon blue room food good book "
        "could would show snow home open ocean soap boat road cheese sheep ship fish shoe chair church judge "
        "jump garage measure pleasure usual thing think three mouth south brother mother weather that those "
        "happy angry hungry sing song long strong bring finger kitchen castle doctor letter table people "
        "sister answer question story picture future nature question sun bus cup mud love money honey car far "
        "star heart park large dog talk walk ball fall small tall law saw thought boy toy noise point house "
        "mouse cloud loud town brown down now light night bright fly sky try time fine line five nine day way "
        "play rain train plane name game face place late I you we they she he it and but so then when where "
        "who why here there come go see look hear speak laugh dance"
    ),
    "de": (
        "Morgen Abend Fenster Wasser Mutter Vater Bruder Schwester Apfel Birne Baum Blume Sommer Winter Katze "
        "Hund Vogel Pferd Haus Maus laut schön grün blau müde über fünf Brücke Küche Löffel Löwe Öl Freund "
        "Freude heute Leute neu Feuer Schule Schiff Tisch Fisch Milch Buch Nacht Licht acht immer niemals "
        "vielleicht wunderbar Papier Musik Bubi Puppe Pommes spielen sprechen lachen singen tanzen wohnen "
        "bauen glauben ich du wir sie und aber dann wenn weil warum woher"
    ),
    "fr": (
        "bonjour maison fenêtre jardin soleil lune étoile pomme poire cerise musique famille matin soirée "
        "bonbon maman papa bébé frère sœur oiseau cheval chat chien poisson bateau voiture ville village "
        "montagne rivière fleur feuille rouge bleu vert jaune blanc noir beau belle petit grand heureux peur "
        "jour nuit toujours jamais souvent peut-être parler chanter danser rire voir venir vouloir pouvoir "
        "nous vous elle et mais donc quand pourquoi comment beaucoup peu"
    ),
    "es": (
        "mañana ventana jardín agua madre padre hermano hermana manzana pera árbol flor verano invierno gato "
        "perro pájaro caballo casa ratón bonito verde azul amarillo puente cocina cuchara fuego amigo escuela "
        "barco mesa pescado leche libro noche luz siempre nunca quizás maravilla papel música bomba mamá papá "
        "burro lluvia hablar cantar bailar reír vivir beber poder yo tú nosotros ella y pero cuando porque "
        "cómo dónde mucho poco pueblo familia número tiempo"
    ),
    "it": (
        "mattina finestra giardino acqua madre padre fratello sorella mela pera albero fiore estate inverno "
        "gatto cane uccello cavallo casa topo bello verde blu giallo ponte cucina cucchiaio fuoco amico "
        "scuola barca tavolo pesce latte libro notte luce sempre mai forse meraviglia carta musica bambino "
        "mamma papà pioggia parlare cantare ballare ridere vivere bere potere io tu noi lei e ma quando "
        "perché come dove molto poco paese famiglia numero tempo bomba pompelmo"
    ),
    "pt": (
        "manhã janela jardim água mãe pai irmão irmã maçã pera árvore flor verão inverno gato cachorro "
        "pássaro cavalo casa bonito verde azul amarelo ponte cozinha colher fogo amigo escola barco mesa "
        "peixe leite livro noite luz sempre nunca talvez maravilha papel música bomba mamãe papai chuva falar "
        "cantar dançar rir viver beber poder eu você nós ela e mas quando porque como onde muito pouco povo "
        "família número tempo coração lugar mundo"
    ),
}
LANGUAGES: tuple[str, ...] = tuple(_WORDS)


def words(language: str, split: Split) -> tuple[str, ...]:
    """The words of a language that a split may use; the two splits share none."""
    unique = tuple(dict.fromkeys(_WORDS[language].split()))
    return tuple(word for index, word in enumerate(unique) if (index % 5 == 2) == (split == "test"))


def sentence(rng: np.random.Generator, language: str, split: Split, length: int | None = None) -> list[str]:
    """Some words, with commas and an end mark: 3 to 9 unless told."""
    count = length or int(rng.integers(3, 10))
    chosen = [str(word) for word in rng.choice(words(language, split), count)]
    for index in range(1, count - 2):
        if rng.random() < 0.1:
            chosen[index] += ","
    chosen[-1] += str(rng.choice([".", ".", ".", "?", "!"]))
    return chosen


def crossed(rng: np.random.Generator, chosen: list[str]) -> list[str]:
    """Half of the words with another word's end: sounds meet that meet in no word of the list."""
    ends = [str(word) for word in rng.permutation(chosen)]
    mixed = [word[: len(word) // 2 + 1] + end[len(end) // 2 :] for word, end in zip(chosen, ends, strict=True)]
    return [new if rng.random() < 0.5 else old for old, new in zip(chosen, mixed, strict=True)]
