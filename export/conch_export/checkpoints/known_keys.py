"""The keys that checkpoints' settings files have, as data: those that are read, and those that cannot change a vector.

A key that is in none of these lists is refused by its name: a newer library may change the numbers by it. The keys of
config.json that a family reads are listed in the family's own module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONFIG_WITHOUT_EFFECT = _keys("""
    _attn_implementation _attn_implementation_autoset _commit_hash _name_or_path _num_labels adapters
    architectures attention_dropout attention_probs_dropout_prob attn_implementation attn_pdrop bad_words_ids
    begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward classifier_bias
    classifier_dropout classifier_dropout_prob cls_token_id conv_act conv_groups cross_attention_hidden_size
    dataset decoder_bias decoder_start_token_id deterministic_flash_attn directionality diversity_penalty
    do_sample dropout dropout_rate dtype early_stopping emb_pdrop embd_pdrop embedding_dropout
    encoder_no_repeat_ngram_size eos_token_id eos_token_ids exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id fused_bias_fc fused_dropout_add_ln gradient_checkpointing
    hidden_dropout_prob id2label initializer_cutoff_factor initializer_factor initializer_range
    is_encoder_decoder keys_to_ignore_at_inference label2id language layerdrop legacy length_penalty license
    lora_dropout_p lora_main_params_trainable mask_token_id max_length max_window_layers min_length
    mlp_checkpoint_lvl mlp_dropout model_max_length model_name moe_resid_pdrop no_repeat_ngram_size num_beam_groups
    num_beams num_decoder_layers num_labels num_return_sequences output_attentions output_hidden_states
    output_past output_scores pad_vocab_size_multiple padding_idx pooler_dropout pooler_fc_size pooler_hidden_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type prefix pretraining_tp
    problem_type qa_dropout reference_compile remove_invalid_values repad_logits_with_grad repetition_penalty
    resid_pdrop return_dict return_dict_in_generate router_aux_loss_coef
    sbert_ce_default_activation_function sentence_transformers sep_token_id
    seq_classif_dropout sinusoidal_pos_embds sparse_pred_ignore_index sparse_prediction summary_activation
    summary_first_dropout summary_last_dropout summary_proj_to_labels summary_type summary_use_proj
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder tie_weights_
    tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript train_data transformers_version
    typical_p unpad_inputs use_bfloat16 use_cache use_flash_attn use_memory_efficient_attention use_reentrant
    use_xentropy vocab_type xla_device
""")
"""Of config.json: training, generation, decoders, heads' names, bookkeeping, and ways to the same numbers."""
MATRYOSHKA = "matryoshka_dimensions"
"""Key of config.json for the lengths that vectors were trained to be cut to, which is read for every architecture."""

TOKENIZER_READ = _keys("""
    add_bos_token add_eos_token add_prefix_space added_tokens_decoder additional_special_tokens auto_map
    bos_token clean_text cls_token do_basic_tokenize do_lower_case eos_token extra_ids extra_special_tokens
    fix_mistral_regex from_slow handle_chinese_chars keep_accents legacy lowercase mask_token merges_file
    model_input_names model_max_length model_specific_special_tokens never_split normalization pad_token remove_space
    sep_token sp_model_kwargs special_tokens split_by_punct split_special_tokens strip_accents tokenize_chinese_chars
    tokenizer_class trim_offsets truncation_side unk_token use_fast vocab vocab_file vocab_type
    wordpieces_prefix
""")
"""Of tokenizer_config.json: transformers acts on them when it loads the tokenizer, which is served as it then is."""

TOKENIZER_WITHOUT_EFFECT = _keys("""
    _commit_hash attn_implementation backend cache_dir chat_template clean_up_tokenization_spaces decoder
    device_map errors full_tokenizer_file init_inputs is_fast is_local language license local_files_only
    max_length model_type name_or_path pad_to_multiple_of pad_token_id pad_token_segment_id pad_token_type_id
    padding padding_side processor_class response_schema return_tensors revision spaces_between_special_tokens
    special_tokens_map_file stride subfolder token tokenizer_file tokenizer_type transformers_version truncation
    truncation_strategy trust_remote_code unk_id use_auth_token use_default_system_prompt verbose
""")
"""Padding is never computed, lengths are cut by `model_max_length`, decoding and chats are not served."""

TRANSFORMER = _keys("""
    config_args config_kwargs do_lower_case document_length max_seq_length modality_config model_args model_kwargs
    module_output_name processing_kwargs processor_kwargs query_expansion query_length tokenizer_args
    tokenizer_name_or_path transformer_task unpad_inputs
""")
"""Of sentence_bert_config.json and its older names."""
MODEL_ARGUMENTS_WITHOUT_EFFECT = _keys("""
    add_pooling_layer attn_implementation cache_dir device_map dtype local_files_only low_cpu_mem_usage revision
    token torch_dtype trust_remote_code use_cache use_safetensors
""")
PYLATE = _keys("""
    attend_to_expansion_tokens do_query_expansion document_length document_prefix query_length query_prefix
    skiplist_words
""")
"""Of config_sentence_transformers.json, how PyLate writes queries and documents."""
SENTENCE_TRANSFORMERS = PYLATE | _keys("""
    __version__ activation_fn default_prompt_name max_seq_length model_type prompts similarity_fn_name truncate_dim
""")
"""Of config_sentence_transformers.json."""
MODEL_TYPES = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder", "ColBERT")
"""Values of its `model_type`: classes of sentence-transformers, and PyLate's."""
COLBERT = _keys("""
    accumsteps amp attend_to_mask_tokens avoid_fork_if_possible bsize centroid_score_threshold checkpoint
    clustering_mode collection dim distillation_alpha doc_maxlen doc_token doc_token_id experiment gpus
    ignore_scores index_bsize index_name index_path index_root interaction kmeans_niters load_index_with_mmap lr
    mask_punctuation maxsteps meta model_name name nbits ncells ndocs nranks nway overwrite pool_factor
    protected_tokens queries query_maxlen query_token query_token_id rank relu reranker resume root save_every
    similarity triples use_ib_negatives warmup warmup_bert
""")
"""Of ColBERT's artifact.metadata: what is read, how the model was trained, and how indexes are made and searched."""
QUERY_EXPANSION = _keys("attend length strategy token")
"""Of sentence_bert_config.json, query_expansion."""
ROUTER = _keys("parameters structure types")
ROUTER_PARAMETERS = _keys("allow_empty_key default_route route_mappings")
"""Of router_config.json."""
ADAPTER = _keys("""
    auto_mapping base_model_name_or_path bias corda_config eva_config exclude_modules fan_in_fan_out inference_mode
    layers_pattern layers_to_transform loftq_config lora_dropout lora_ga_config megatron_core modules_to_save
    peft_version qalora_group_size revision runtime_config target_modules task_type
""")
"""Of PEFT's adapter_config.json: how it was trained, and which modules it changes, which its tensors say as well."""
MODULE = _keys("idx kwargs name path type")
"""Of an entry of modules.json."""
MODULES: Mapping[str, frozenset[str]] = {
    "Pooling": _keys("""
    embedding_dimension include_prompt pooling_mode pooling_mode_cls_token pooling_mode_lasttoken
    pooling_mode_max_tokens pooling_mode_mean_sqrt_len_tokens pooling_mode_mean_tokens
    pooling_mode_weightedmean_tokens word_embedding_dimension
"""),
    "Dense": _keys("""
    activation_function bias in_features init_bias init_weight module_input_name module_output_name out_features
    use_residual
"""),
    "SpladePooling": _keys(
        "activation_function chunk_size embedding_dimension pooling_strategy word_embedding_dimension"
    ),
    "LogitScore": _keys("false_token_id module_input_name true_token_id"),
    "Normalize": _keys("module_input_name module_output_name"),
    "MultiVectorMask": _keys("keep_only_token_ids skiplist_tasks skiplist_words"),
    "SparseStaticEmbedding": _keys("frozen"),
}
"""Of the modules' own config.json."""


def kind_of(path: str) -> str:
    """The kind of a module, by the path of its class, which changes with the library's versions."""
    return path.rpartition(".")[-1]
