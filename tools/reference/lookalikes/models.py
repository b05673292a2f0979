"""Public descendants of GPT-2: the fields and files that make each one peculiar, as published.

`@token` in a configuration is the id of that token. What the files hold was written down from the models' pages and from
transformers' own conversions, not copied: sizes are small, the kinds are the published ones.
"""
from kinds import (
    bert_fast, bert_vocab, byte_fast, byte_slow, metaspace_bpe, official_gpt2, sentencepiece_t5, sentencepiece_t5_saved, whole_words,
)

EOT = "<|endoftext|>"
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT2 = dict(bos_token_id="@" + EOT, eos_token_id="@" + EOT)
TEXT_GENERATION = dict(task_specific_params={"text-generation": {"do_sample": True, "max_length": 50}})
OFFICIAL = GPT2 | TEXT_GENERATION | dict(n_ctx=64, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
MISTRAL = GPT2 | dict(reorder_and_upcast_attn=True, scale_attn_by_inverse_layer_idx=True)


def added(content, **flags):
    return dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False) | flags


def typed(content, **flags):
    return {"__type": "AddedToken"} | added(content, normalized=True) | flags


THREE = {"bos_token": EOT, "eos_token": EOT, "unk_token": EOT}
ANGLE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
M = []


def model(name, peculiar, kind, language="en", config=GPT2, weights=None, generation=None, reader="auto", refused=None, **options):
    M.append(dict(name=name, peculiar=peculiar, kind=kind, language=language, config=config, weights=weights or {},
                  generation=generation, reader=reader, refused=refused, options=options))


BARE = dict(prefix=False, buffers=True)
model("openai-community/gpt2", "tokenizer.json whose model has no type, its pre-tokenizer no use_regex; weights without prefix, with attn.bias",
      official_gpt2, config=OFFICIAL, weights=BARE, generation=GPT2)
model("openai-community/gpt2-medium", "the same files, n_special", official_gpt2, config=OFFICIAL | dict(n_special=0, predict_special_tokens=True),
      weights=BARE, generation=GPT2)
model("openai-community/gpt2-large", "the same files", official_gpt2, config=OFFICIAL | dict(n_head=4), weights=BARE, generation=GPT2)
model("openai-community/gpt2-xl", "output_past, sharded weights", official_gpt2, config=OFFICIAL | dict(output_past=True),
      weights=BARE | dict(shards=True), generation=GPT2)
model("distilbert/distilgpt2", "prefix and lm_head.weight, id2label, torch_dtype", official_gpt2,
      config=OFFICIAL | dict(_num_labels=1, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}), weights=dict(lm_head=True, buffers=True))
model("microsoft/DialoGPT-small", "vocab.json and merges.txt alone", byte_slow, config=OFFICIAL, weights=dict(lm_head=True, buffers=True),
      special=[EOT], tokenizer_config={"model_max_length": 1024}, generation=GPT2)
model("microsoft/DialoGPT-medium", "conversational parameters, chat template", byte_slow,
      config=GPT2 | dict(task_specific_params={"conversational": {"max_length": 1000}}), special=[EOT],
      tokenizer_config={"model_max_length": 1024, "chat_template": "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"})
model("ai-forever/rugpt3small_based_on_gpt2", "special tokens in special_tokens_map.json alone; more rows than ids", byte_slow, "ru",
      config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=0), rows=8, special=["<pad>", "<s>", "</s>", "<unk>", "<mask>"],
      special_tokens_map=ANGLE, tokenizer_config={})
model("ai-forever/rugpt3large_based_on_gpt2", "special tokens as objects in tokenizer_config.json", byte_slow, "ru",
      config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=0), special=["<pad>", "<s>", "</s>", "<unk>", "<mask>"],
      tokenizer_config={k: typed(v) for k, v in ANGLE.items()} | {"add_prefix_space": False, "errors": "replace"})
model("ai-forever/mGPT", "tokenizer.json and special_tokens_map.json that name more tokens", byte_fast, "ru",
      config=dict(bos_token_id="@" + EOT, eos_token_id="@" + EOT, pad_token_id="@<pad>", scale_attn_weights=True),
      special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", EOT], in_json=[EOT],
      special_tokens_map={"eos_token": EOT, "bos_token": EOT, "unk_token": EOT, "pad_token": "<pad>", "mask_token": "<mask>"})
model("tinkoff-ai/ruDialoGPT-small", "additional_special_tokens", byte_slow, "ru", config=dict(bos_token_id="@<s>", eos_token_id="@</s>", pad_token_id="@<pad>"),
      special=["<pad>", "<s>", "</s>", "<unk>"], added_tokens=["@@ПЕРВЫЙ@@", "@@ВТОРОЙ@@", "[PAD]"],
      special_tokens_map=ANGLE | {"mask_token": "</s>", "additional_special_tokens": ["@@ПЕРВЫЙ@@", "@@ВТОРОЙ@@"], "pad_token": "[PAD]"},
      tokenizer_config={"add_prefix_space": False})
model("IlyaGusev/rugpt3medium_sum_gazeta", "added_tokens.json with tokens that are not special", byte_slow, "ru",
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), special=["<pad>", "<s>", "</s>", "<unk>"], added_tokens=["<|sum|>", "<sep>"],
      special_tokens_map={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, tokenizer_config={})
model("Kirili4ik/ruDialoGpt3-medium", "added_tokens_decoder, add_prefix_space false, added_tokens.json", byte_slow, "ru",
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>", pad_token_id="@<pad>"), special=["<pad>", "<s>", "</s>", "<unk>", "<mask>"],
      added_tokens=["|0|", "|1|"], decoder_special={"|0|": False, "|1|": True}, tokenizer_config={k: v for k, v in ANGLE.items()})
# Its page reads it with PreTrainedTokenizerFast: AutoTokenizer of transformers 5 takes it for bytes and loses every word.
model("skt/kogpt2-base-v2", "Metaspace BPE with NFKC, one file", metaspace_bpe, "ko", reader="fast",
      config=dict(bos_token_id=0, eos_token_id=1, pad_token_id=3, author="-", created_date="2021-04-28", license="-"),
      special=["<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>"])
model("taeminlee/kogpt2", "Metaspace BPE, tokenizer_config.json names the tokens", metaspace_bpe, "ko",
      config=dict(bos_token_id=0, eos_token_id=1), special=["<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>"], modern=True,
      tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>", "tokenizer_class": "PreTrainedTokenizerFast"})
model("kykim/gpt3-kor-small_based_on_gpt2", "BERT's WordPiece, lower case", bert_vocab, "ko", config=dict(bos_token_id="@[CLS]", eos_token_id="@[SEP]", pad_token_id="@[PAD]"),
      tokenizer_config={"do_lower_case": False, "tokenizer_class": "BertTokenizer", "strip_accents": False}, special_tokens_map=True)
model("codeparrot/codeparrot-small", "attention scaled by layer, end token 0", byte_fast, "code", config=MISTRAL, special=[EOT],
      tokenizer_config=THREE | {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False})
model("codeparrot/codeparrot-small-multi", "PreTrainedTokenizerFast", byte_fast, "code", config=MISTRAL, special=[EOT],
      tokenizer_config=THREE | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024})
model("dbmdz/german-gpt2", "tokenizer.json next to vocab.json and merges.txt", byte_fast, "de", config=GPT2, special=[EOT], also_slow=True,
      tokenizer_config={"max_len": 1024}, special_tokens_map=THREE)
model("benjamin/gerpt2", "end token 0", byte_fast, "de", config=GPT2 | dict(gradient_checkpointing=False), special=[EOT], also_slow=True)
model("datificate/gpt2-small-spanish", "tokenizer_config.json with add_prefix_space true", byte_slow, "es", special=[EOT],
      special_tokens_map=THREE, tokenizer_config={"add_prefix_space": True, "model_max_length": 1024})
model("DeepESP/gpt2-spanish", "nine added tokens", byte_fast, "es", special=[EOT, "<|talk|>"] + [f"<|ax{i}|>" for i in range(1, 5)],
      also_slow=True, tokenizer_config={"errors": "replace", "tokenizer_class": "GPT2Tokenizer"} | {k: typed(v) for k, v in THREE.items()})
model("PlanTL-GOB-ES/gpt2-base-bne", "RoBERTa's tokens, mask with lstrip", byte_fast, "es", special=ROBERTA,
      config=dict(bos_token_id=0, eos_token_id=2, pad_token_id=1), also_slow=True, weights=dict(dtype="bfloat16"),
      tokenizer_config={"bos_token": typed("<s>"), "eos_token": typed("</s>"), "unk_token": typed("<unk>"), "pad_token": typed("<pad>"),
                        "mask_token": typed("<mask>", lstrip=True), "add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"})
model("mrm8488/spanish-gpt2", "Flax files, tokenizer.json alone", byte_fast, "es", special=[EOT], config=GPT2 | dict(use_cache=True))
model("pierreguillou/gpt2-small-portuguese", "special_tokens_map.json with objects", byte_slow, "pt", special=[EOT],
      special_tokens_map={k: added(v, normalized=True) for k, v in THREE.items()}, tokenizer_config={"pad_token": EOT, "model_max_length": 1024})
model("LorenzoDeMattei/GePpeTto", "end token unlike the config's default", byte_slow, "it", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", EOT],
      config=GPT2, special_tokens_map=THREE, tokenizer_config={"add_prefix_space": False})
model("GroNLP/gpt2-small-italian", "RoBERTa's tokens as bos, eos and unk", byte_fast, "it", special=["<unk>", "<s>", "<pad>", "</s>"],
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})
model("GroNLP/gpt2-small-dutch", "the same with vocab.json", byte_slow, "nl", special=["<unk>", "<s>", "<pad>", "</s>"],
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), special_tokens_map={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})
model("yhavinga/gpt2-medium-dutch", "Flax, tokenizer.json with NFC", byte_fast, "nl", special=[EOT], normalizer="NFC",
      tokenizer_config=THREE | {"tokenizer_class": "PreTrainedTokenizerFast"})
model("asi/gpt-fr-cased-small", "angle tokens, sep and cls", byte_slow, "fr", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>", pad_token_id="@<pad>", scale_attn_weights=True),
      special_tokens_map=ANGLE | {"sep_token": "</s>", "cls_token": "<s>"}, tokenizer_config={"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"})
model("ClassCat/gpt2-base-french", "byte-level by Sequence", byte_fast, "fr", special=ROBERTA, split="sequence",
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), tokenizer_config=ANGLE | {"tokenizer_class": "PreTrainedTokenizerFast"})
model("cerebras/Cerebras-GPT-111M", "gelu, n_inner, half precision", official_gpt2,
      config=GPT2 | dict(activation_function="gelu", n_inner=24, scale_attn_weights=True), weights=dict(dtype="float16"))
model("cerebras/Cerebras-GPT-590M", "head size 12, sharded", official_gpt2, config=GPT2 | dict(activation_function="gelu", n_embd=12, n_head=1, n_inner=48),
      weights=dict(shards=True, lm_head=True))
model("rinna/japanese-gpt2-small", "sentencepiece (T5Tokenizer), spiece.model alone", sentencepiece_t5, "ja", refused="found only spiece.model",
      config=dict(bos_token_id=1, eos_token_id=2, scale_attn_weights=True))
model("rinna/japanese-gpt2-small (saved as tokenizer.json)", "Unigram, precompiled character map, Metaspace", sentencepiece_t5_saved, "ja",
      config=dict(bos_token_id=1, eos_token_id=2))
model("abeja/gpt2-large-japanese", "Unigram, saved as tokenizer.json, padded rows", sentencepiece_t5_saved, "ja",
      config=dict(bos_token_id=1, eos_token_id=2, pad_token_id=3), rows=64)
model("uer/gpt2-chinese-cluecorpussmall", "vocab.txt, tokenizer_class in config.json", bert_vocab, "zh",
      config=dict(tokenizer_class="BertTokenizer", gradient_checkpointing=False, task_specific_params={"text-generation": {"do_sample": True, "max_length": 320}}),
      tokenizer_config={"do_lower_case": False, "init_inputs": []}, special_tokens_map=True)
model("uer/gpt2-chinese-poem", "vocab.txt, lower case", bert_vocab, "zh", config=dict(tokenizer_class="BertTokenizer"),
      tokenizer_config={"do_lower_case": True}, special_tokens_map=True)
model("ckiplab/gpt2-base-chinese", "BertTokenizerFast, tokenizer.json, spaces cleaned up", bert_fast, "zh",
      config=dict(bos_token_id="@[CLS]", eos_token_id="@[SEP]", tokenizer_class="BertTokenizerFast"),
      tokenizer_config={"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True, "clean_up_tokenization_spaces": True, "model_max_length": 512, "tokenizer_class": "BertTokenizerFast"})
model("flax-community/papuGaPT2", "tokenizer.json, more special tokens than used", byte_fast, "pl", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", EOT],
      tokenizer_config=THREE | {"tokenizer_class": "GPT2Tokenizer"}, special_tokens_map=THREE)
model("aubmindlab/aragpt2-base", "tokenizer_config.json with objects, max_len", byte_slow, "ar", special=[EOT, "<pad>"],
      special_tokens_map={k: added(v, normalized=True) for k, v in THREE.items()} | {"pad_token": "<pad>"},
      tokenizer_config={k: typed(v) for k, v in THREE.items()} | {"add_prefix_space": False, "max_len": 1024, "pad_token": "<pad>"})
model("akhooli/gpt2-small-arabic", "fastai, tokenizer_config.json only", byte_slow, "ar", special=[EOT], tokenizer_config={"pad_token": EOT, "max_len": 1024})
model("Gustavosta/MagicPrompt-Stable-Diffusion", "saved again by a newer transformers", official_gpt2, config=OFFICIAL | dict(eos_token_id="@" + EOT),
      tokenizer_config=THREE | {"add_prefix_space": False, "tokenizer_class": "GPT2Tokenizer", "name_or_path": "gpt2"}, weights=dict(lm_head=True))
model("FredZhang7/distilgpt2-stable-diffusion-v2", "[PAD] configured, no row for it", official_gpt2, config=OFFICIAL,
      tokenizer_config=THREE | {"pad_token": "[PAD]", "tokenizer_class": "GPT2Tokenizer"})
model("succinctly/text2image-prompt-generator", "pad is the end token, list of ends in generation_config.json", official_gpt2, config=OFFICIAL,
      tokenizer_config=THREE | {"pad_token": EOT}, generation=GPT2 | dict(eos_token_id=["@" + EOT, 13], pad_token_id="@" + EOT))
model("sshleifer/tiny-gpt2", "width 2, no tokenizer.json", byte_slow, config=OFFICIAL | dict(n_embd=2, n_head=2, n_layer=2), special=[EOT],
      special_tokens_map=THREE, tokenizer_config={"model_max_length": 1024})
model("hf-internal-testing/tiny-random-gpt2", "five layers, dropout, odd ids", byte_slow,
      config=dict(bos_token_id=98, eos_token_id=98, pad_token_id=98, n_layer=3, type_vocab_size=16, intermediate_size=37, attention_probs_dropout_prob=0.1),
      special=[EOT], tokenizer_config={"model_max_length": 512})
model("microsoft/CodeGPT-small-py", "angle tokens and <|UNKNOWN|>", byte_slow, "code", special=["<s>", "</s>", "<pad>", "<|UNKNOWN|>"],
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), special_tokens_map={"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<|UNKNOWN|>", "pad_token": "<pad>"})
model("microsoft/CodeGPT-small-java-adaptedGPT2", "tokens added after the end token", byte_slow, "code", special=[EOT], added_tokens=["<|startoftext|>", "<|pad|>"],
      config=GPT2, special_tokens_map=THREE | {"bos_token": "<|startoftext|>", "pad_token": "<|pad|>"}, tokenizer_config={})
model("stanford-crfm/BioMedLM", "scientific vocabulary, PreTrainedTokenizerFast, half precision", byte_fast, "latin", config=GPT2 | dict(use_cache=False, n_ctx=64),
      special=[EOT], at_end=True, weights=dict(dtype="float16"), tokenizer_config=THREE | {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False})
model("stanford-crfm/alias-gpt2-small-x21", "attention scaled by layer and upcast", official_gpt2, config=OFFICIAL | MISTRAL)
model("stanford-crfm/battlestar-gpt2-small-x49", "the same, scale_attn_weights", official_gpt2, config=OFFICIAL | MISTRAL | dict(scale_attn_weights=True), weights=dict(lm_head=True))
model("NlpHUST/gpt2-vietnamese", "end token 0, tokenizer.json", byte_fast, "vi", special=[EOT], tokenizer_config=THREE)
model("HooshvareLab/gpt2-fa", "six tokens, two of them added", byte_slow, "fa", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|startoftext|>", EOT],
      added_tokens=["<sep>"], config=dict(bos_token_id="@<|startoftext|>", eos_token_id="@" + EOT, pad_token_id="@<pad>"),
      special_tokens_map={"bos_token": "<|startoftext|>", "eos_token": EOT, "unk_token": "<unk>", "pad_token": "<pad>", "sep_token": "<sep>"}, tokenizer_config={})
model("bolbolzaban/gpt2-persian", "[BOS], [EOS], added tokens with strip flags", byte_fast, "fa", special=["[UNK]", "[BOS]", "[EOS]", "[PAD]"],
      extra_json=[dict(content="[SEP]", lstrip=True, rstrip=True, special=True), dict(content="[NUM]", single_word=True, special=False)],
      config=dict(bos_token_id="@[BOS]", eos_token_id="@[EOS]"), tokenizer_config={"bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]", "pad_token": "[PAD]", "tokenizer_class": "PreTrainedTokenizerFast"})
model("redrussianarmy/gpt2-turkish-cased", "vocab.json and merges.txt", byte_slow, "tr", special=[EOT], special_tokens_map=THREE)
model("cahya/gpt2-small-indonesian-522M", "RoBERTa's tokens in the vocabulary", byte_slow, "id", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", EOT],
      config=GPT2, special_tokens_map=THREE, tokenizer_config={"model_max_length": 1024})
model("flax-community/gpt2-base-thai", "tokenizer.json", byte_fast, "th", special=[EOT], tokenizer_config=THREE, special_tokens_map=THREE)
model("Norod78/distilgpt2-base-pretrained-he", "fifty added tokens of one kind", byte_fast, "he", special=[EOT],
      extra_json=[dict(content=" " * n, normalized=True, special=False) for n in range(12, 1, -1)], tokenizer_config=THREE)
model("birgermoell/swedish-gpt", "Flax", byte_fast, "sv", special=[EOT], config=GPT2)
model("Finnish-NLP/gpt2-finnish", "padded rows", byte_fast, "fi", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>", EOT], rows=64,
      tokenizer_config=THREE | {"pad_token": "<pad>"})
model("flax-community/gpt2-bengali", "tokenizer.json with NFKC", byte_fast, "bn", special=[EOT], normalizer="NFKC", tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"} | THREE)
model("surajp/gpt2-hindi", "pad added, row for it", byte_fast, "hi", special=[EOT], tokenizer_config=THREE | {"pad_token": "[PAD]"}, rows=4)
model("readerbench/RoGPT2-base", "tokenizer_config.json with added_tokens_decoder", byte_fast, "ro", special=[EOT], also_slow=True,
      tokenizer_config=THREE | {"added_tokens_decoder": {"0": added(EOT, normalized=True, special=True)}, "clean_up_tokenization_spaces": True})
model("NYTK/text-generation-poem-petofi-gpt2-small-hungarian", "merges as pairs", byte_fast, "hu", special=[EOT], pairs=True, tokenizer_config=THREE)
model("nferruz/ProtGPT2", "protein sequences", byte_fast, "protein", special=[EOT], config=GPT2 | dict(task_specific_params=None), also_slow=True)
model("entropy/gpt2_zinc_87m", "SMILES, template with bos and eos", byte_fast, "smiles", special=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], template=("<s>", "</s>"),
      config=dict(bos_token_id="@<s>", eos_token_id="@</s>"), tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"})
model("lvwerra/gpt2-imdb", "the model of TRL's notebook", official_gpt2, config=OFFICIAL, special_tokens_map=THREE, tokenizer_config=THREE | {"model_max_length": 1024},
      weights=dict(lm_head=True, buffers=True))
model("nicholasKluge/Aira-2-124M", "ends, separators and pads of its own", byte_slow, special=[EOT], added_tokens=["<|startofinstruction|>", "<|endofinstruction|>", "<|endofcompletion|>", "[PAD]"],
      config=dict(bos_token_id="@<|startofinstruction|>", eos_token_id="@<|endofcompletion|>", pad_token_id="@[PAD]", sep_token_id="@<|endofinstruction|>"),
      special_tokens_map={"bos_token": "<|startofinstruction|>", "eos_token": "<|endofcompletion|>", "sep_token": "<|endofinstruction|>", "pad_token": "[PAD]", "unk_token": "[UNK]"},
      tokenizer_config={"add_prefix_space": True}, rows=1)
model("Locutusque/gpt2-conversational-retrain", "added tokens that are not special", official_gpt2, config=OFFICIAL, rows=3,
      added=[dict(content="<|USER|>", special=False, normalized=True), dict(content="<|ASSISTANT|>", special=False, normalized=True)],
      tokenizer_config=THREE | {"pad_token": "<|pad|>"})
model("pranavpsv/gpt2-genre-story-generator", "genre tokens, bos, eos and pad by name", byte_slow, special=[EOT],
      added_tokens=["<superhero>", "<action>", "<drama>", "<BOS>", "<EOS>", "<PAD>"], config=dict(bos_token_id="@<BOS>", eos_token_id="@<EOS>"),
      special_tokens_map={"bos_token": "<BOS>", "eos_token": "<EOS>", "unk_token": EOT, "pad_token": "<PAD>", "additional_special_tokens": ["<superhero>", "<action>", "<drama>"]}, tokenizer_config={})
model("mbien/recipenlg", "sixteen tokens around a recipe", byte_slow, special=[EOT],
      added_tokens=["<RECIPE_START>", "<INPUT_START>", "<NEXT_INPUT>", "<INPUT_END>", "<TITLE_START>", "<TITLE_END>", "<RECIPE_END>"],
      special_tokens_map=THREE | {"additional_special_tokens": ["<TITLE_START>", "<TITLE_END>", "<INPUT_START>", "<NEXT_INPUT>", "<INPUT_END>"]})
model("minimaxir/magic-the-gathering", "aitextgen: small vocabulary, bos and eos of GPT-2", byte_fast, special=[EOT, "<|castcost|>"], also_slow=True,
      config=GPT2 | dict(gradient_checkpointing=False, line_by_line=False, n_positions=48, n_ctx=48))
model("Writer/palmyra-small", "config in transformers' aliases", official_gpt2,
      config=GPT2 | dict(hidden_size=8, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=64), aliases=True)
model("aitextgen character model", "WordLevel words", whole_words, config=dict(bos_token_id="@[BOS]", eos_token_id="@[EOS]"))
