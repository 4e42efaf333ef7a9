# source env.sh: puts crm, dbt, airflow, ansible-playbook, spark-submit and the stack's settings on the path.
_crm_root=$(cd "$(dirname "${BASH_SOURCE:-$0}")" && pwd)
if [ ! -f "$_crm_root/env.sh" ]; then _crm_root=$PWD; fi
CRM_HOME=${CRM_HOME:-$_crm_root/.crm}
if [ -x "$CRM_HOME/bin/crm" ]; then
  export CRM_HOME
  case ":$PATH:" in *":$CRM_HOME/bin:"*) ;; *) PATH="$CRM_HOME/bin:$PATH" ;; esac
  eval "$("$CRM_HOME/bin/crm" env)"
else
  echo "env.sh: nothing is installed in $CRM_HOME yet; run 'make up' first" >&2
fi
unset _crm_root
