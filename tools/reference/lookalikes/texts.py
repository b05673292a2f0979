"""Text the small vocabularies are trained on, and the texts every tokenizer is asked about."""

LANGUAGES = {
    "en": "The movie was great and the acting was even better. I would watch it again with my friends. "
    "It's not what they'd expected, but we're happy; the end of the story isn't the end of the world! In 1999 the town had 12,345 people.",
    "ru": "Москва является столицей России и крупнейшим городом страны. Я люблю читать книги и гулять по городу. "
    "Фильм был очень хороший, но конец мне не понравился. Что вы об этом думаете? В 1812 году всё было иначе.",
    "ko": "안녕하세요 반갑습니다. 오늘 날씨가 정말 좋네요. 영화는 재미있었고 배우들의 연기도 훌륭했습니다. "
    "근육이 커지기 위해서는 꾸준한 운동이 필요합니다. 서울은 한국의 수도입니다.",
    "de": "Der Film war sehr schön, aber das Ende gefiel mir überhaupt nicht. Die Straße führt über die Brücke nach Köln. "
    "Heute ist das Wetter gut; morgen könnte es regnen. Größe ist nicht alles!",
    "es": "La película fue muy buena y el actor principal estuvo fantástico. ¿Qué te pareció el final? ¡Increíble! "
    "El niño comió una manzana en el jardín de su abuela. Mañana será otro día.",
    "pt": "O filme foi muito bom e a atuação foi excelente. Não sei o que você achou do final, mas eu gostei. "
    "A cidade de São Paulo é a maior do país. Amanhã vai chover.",
    "it": "Il film era bellissimo e gli attori erano bravi. Perché non vieni con noi a vedere lo spettacolo? "
    "La città più bella d'Italia è Venezia. C'è molta gente qui.",
    "fr": "Le film était très beau et l'acteur principal jouait à merveille. Où êtes-vous allés hier soir? "
    "L'été dernier, nous avons mangé des crêpes à Paris. C'est la vie, n'est-ce pas?",
    "ja": "吾輩は猫である。名前はまだ無い。今日はとても天気がいいですね。映画は面白かったが、最後は少し悲しかった。"
    "東京は日本の首都です。生命、宇宙、そして万物についての究極の疑問の答えは",
    "zh": "这部电影非常好看，演员的表演也很精彩。今天天气很好，我们去公园散步吧。北京是中国的首都。"
    "最后的结局让人有点难过。米饭是一种用稻米与水煮成的食物。",
    "pl": "Film był bardzo dobry, ale zakończenie mi się nie podobało. Najsmaczniejszy polski owoc to jabłko. "
    "Gdzie jest mój żółty płaszcz? Wczoraj padał śnieg w Łodzi.",
    "ar": "كان الفيلم رائعا جدا والتمثيل ممتازا. القاهرة هي عاصمة مصر وأكبر مدنها. "
    "ما رأيك في النهاية؟ أحب قراءة الكتب في المساء، وغدا سنذهب إلى البحر.",
    "vi": "Bộ phim rất hay và diễn viên đóng rất tốt. Hôm nay trời đẹp quá, chúng ta đi dạo nhé. "
    "Việt Nam là quốc gia có nhiều cảnh đẹp. Bạn nghĩ gì về kết thúc?",
    "fa": "فیلم خیلی خوب بود و بازیگران عالی بودند. تهران پایتخت ایران است. "
    "نظر شما درباره پایان چیست؟ من کتاب خواندن را دوست دارم و می‌روم.",
    "tr": "Film çok güzeldi ama sonu beni üzdü. İstanbul Türkiye'nin en büyük şehridir. "
    "Bugün hava çok güzel, parka gidelim mi? Iğdır ve Şırnak doğudadır.",
    "id": "Filmnya sangat bagus dan aktornya bermain dengan baik. Jakarta adalah ibu kota Indonesia. "
    "Apa pendapat Anda tentang akhir cerita itu? Saya suka membaca buku di malam hari.",
    "th": "ภาพยนตร์เรื่องนี้ดีมากและนักแสดงเล่นได้เยี่ยม กรุงเทพเป็นเมืองหลวงของประเทศไทย วันนี้อากาศดีมาก คุณคิดอย่างไรกับตอนจบ",
    "he": "הסרט היה מצוין והשחקנים היו נהדרים. ירושלים היא בירת ישראל. מה דעתך על הסוף? אני אוהב לקרוא ספרים בערב.",
    "nl": "De film was erg goed en het acteerwerk was prachtig. Amsterdam is de hoofdstad van Nederland. "
    "Wat vond je van het einde? Zijn zus heeft één ijsje gegeten.",
    "sv": "Filmen var mycket bra och skådespelarna var utmärkta. Stockholm är Sveriges huvudstad. Vad tyckte du om slutet? Åska och ösregn.",
    "fi": "Elokuva oli erittäin hyvä ja näyttelijät olivat loistavia. Helsinki on Suomen pääkaupunki. Mitä mieltä olit lopusta? Hyvää yötä.",
    "bn": "সিনেমাটি খুব ভালো ছিল এবং অভিনয় দারুণ ছিল। ঢাকা বাংলাদেশের রাজধানী। শেষটা তোমার কেমন লাগল?",
    "hi": "फ़िल्म बहुत अच्छी थी और अभिनय शानदार था। दिल्ली भारत की राजधानी है। अंत के बारे में आप क्या सोचते हैं?",
    "ro": "Filmul a fost foarte bun și actorii au jucat minunat. București este capitala României. Ce părere ai despre final? Țara și ștergarul.",
    "hu": "A film nagyon jó volt, és a színészek remekül játszottak. Budapest Magyarország fővárosa. Mit gondolsz a végéről? Szeptember végén, őszi eső.",
    "code": "def add(a, b):\n    \"\"\"Return the sum.\"\"\"\n    return a + b\n\nfor i in range(10):\n    if i % 2 == 0:\n        print(f\"{i}: {add(i, 1)}\")\n"
    "class Point:\n    def __init__(self, x=0, y=0):\n        self.x, self.y = x, y\n\t# tab\n",
    "protein": "MGEEMSALRTRGSAAVRDEVEEQILSRLLEQAPRVVVLGYPADEIRRIAEEL\nMKVLAAGVVGLCAALRRRGHEVVALDPSSSDEVRALVEGADVVVHAAAE\n",
    "smiles": "CC(=O)OC1=CC=CC=C1C(=O)O CN1C=NC2=C1C(=O)N(C(=O)N2C)C [nH]c1ccccc1 C[C@H](N)C(=O)O O=C(Nc1ccc(Cl)cc1)N2CCN(CC2)c3ncccn3 Br F I S P\n",
    "latin": "<p>Abstract: aspirin (acetylsalicylic acid) reduced the risk of myocardial infarction by 44% in 22,071 male physicians.</p> "
    "The p-value was < 0.001; patients received 325 mg every other day. Photosynthesis occurs in chloroplasts.",
}

# What tokenizers disagree about: white space of every kind, contractions, digits, marks, characters without a token.
HARD = [
    "",
    " ",
    "The movie was great, and I'd watch it again.",
    "  two   spaces\tand\n\n\nlines \n  x  ",
    "good \u0085bad \u0085 a\u0085\u0085b",
    "\ufeffbom a\ufeffb \u180e c\u180ed \u200b\u3000wide\u00a0nbsp\u2028",
    "a\x1c \x1d\x1e \x1fb x\x1f\x1f y\x00z",
    "I'm he's we'll DON'T ''s 'tis it'S  've",
    "1234567 3.14 \u00bd\u00b2 \u0661\u0662\u0663 \u2167 1st 22nd",
    "caf\u00e9 cafe\u0301 \u212b \ufb01ne \u0130I\u0131 \u00df\u1e9e \uff21\uff42\uff11 \u1112\u1161\u11ab",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \u2764\ufe0f \U0001d7d8\U00020000",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0645\u0631\u062d\u0628\u0627 \u0e2a\u0e27\u0e31 \u0939\u093f\u0928\u094d",
    "price: $1,234.56 (50% off!!!) ... #1 & more -- <br /> a_b-c@d.e ``x'' \u00abq\u00bb \u201cz\u201d it 's n't . a ' b ' 's do n't , x",
    "wordwordword" * 9,
]

# Written between the special tokens of a tokenizer, in every way their flags can matter.
AROUND = ["{}", "a{}b", "  {}  {}{} x", "a\n{}\nb"]
