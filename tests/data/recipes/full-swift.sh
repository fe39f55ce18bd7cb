# ms-swift 4; in 3.x tuner_type is called train_type. A model of the Hugging Face Hub: --use_hf true
swift sft \
    --model Qwen/Qwen2.5-0.5B-Instruct \
    --tuner_type full \
    --dataset 'my data/train.jsonl' \
    --torch_dtype bfloat16 \
    --max_length 1024 \
    --truncation_strategy right \
    --num_train_epochs 3 \
    --per_device_train_batch_size 8 \
    --per_device_eval_batch_size 8 \
    --gradient_accumulation_steps 1 \
    --learning_rate 0.0002 \
    --lr_scheduler_type cosine \
    --warmup_ratio 0.05 \
    --max_grad_norm 1 \
    --seed 0 \
    --gradient_checkpointing true \
    --logging_steps 1 \
    --output_dir tuned
