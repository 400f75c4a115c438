{{/* What `helm uninstall` has to do before anything goes; nothing to do is "". */}}

{{/* The functions' namespace goes, and with it Function objects that only the controller can let go: "true" or nothing. */}}
{{- define "okiba.functionsGo" -}}
{{- if and .Values.functions.createNamespace (not .Values.functions.keepNamespace) }}true{{ end -}}
{{- end }}

{{/* The store stays, and has rules of Okiba's: "true" or nothing. A bundled one goes by itself. */}}
{{- define "okiba.uninstall" -}}
{{- if or (include "okiba.functionsGo" .) (not (include "okiba.minio" .)) }}true{{ end -}}
{{- end }}

{{/* Args: weight. */}}
{{- define "okiba.postDelete" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}

{{/* Args: weight. */}}
{{- define "okiba.preDelete" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}
